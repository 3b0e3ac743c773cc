use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use ::redis::{Value, cmd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinSet;

use super::*;

/// One that counts how often it is polled, and never ends.
fn driver(polls: &AtomicUsize) -> impl Future<Output = ()> {
    poll_fn(|_| {
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    })
}

#[test]
fn driver_is_polled_at_once_for_one_call_and_after_the_others_for_several() {
    let (polls, crowd) = (AtomicUsize::new(0), Crowd::default());
    let mut task = pin!(drive(driver(&polls), crowd.clone()));
    let mut wake = || {
        let mut context = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut context).is_pending());
        polls.load(Ordering::Relaxed)
    };
    assert_eq!([wake(), wake()], [1, 2], "no call");
    let alone = Call::of(&crowd);
    assert_eq!([wake(), wake()], [3, 4], "one call");
    let second = Call::of(&crowd);
    assert_eq!([wake(), wake(), wake(), wake()], [4, 5, 5, 6], "two calls");
    drop(second);
    assert_eq!([wake(), wake()], [7, 8], "one call again");
    drop(alone);
}

/// A connection that counts what is written to it at a time.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// All of the same length.
const NUMBERS: std::ops::Range<i64> = 10..42;

fn get(number: i64) -> ::redis::Cmd {
    let mut get = cmd("GET");
    get.arg(number);
    get
}

/// Answers each with the number that it was asked for, but not before it was asked for all.
async fn serve(mut stream: DuplexStream) {
    let length = get(NUMBERS.start).get_packed_command().len();
    let mut asked = vec![0; length * NUMBERS.count()];
    stream.read_exact(&mut asked).await.unwrap();
    for command in asked.chunks(length) {
        let number = str::from_utf8(&command[length - 4..length - 2]).unwrap();
        let reply = format!(":{number}\r\n");
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}

/// On one worker, so that the callers are ready one after the other: the first is alone and does not wait, and the
/// others are ready when the task of the connection is woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_of_many_callers_are_two_writes_and_each_has_its_own_reply() {
    let client = Client::open("redis://localhost").unwrap();
    let info = client.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    let (stream, server) = duplex(1 << 16);
    let writes = Arc::new(AtomicUsize::new(0));
    let wire = Wire::on(Counted(stream, Arc::clone(&writes)), &client).await;
    let wire = Arc::new(wire.unwrap());
    assert_eq!(writes.load(Ordering::Relaxed), 0);
    let calling = async move {
        tokio::spawn(serve(server));
        let mut callers = JoinSet::new();
        for number in NUMBERS {
            let wire = Arc::clone(&wire);
            callers.spawn(async move {
                let _call = wire.call();
                let reply = wire.connection().send_packed_command(&get(number)).await;
                assert_eq!(reply.unwrap(), Value::Int(number));
            });
        }
        callers.join_all().await.len()
    };
    assert_eq!(tokio::spawn(calling).await.unwrap(), NUMBERS.count());
    assert_eq!(writes.load(Ordering::Relaxed), 2);
}

/// What waits for the others does not wait for one that blocks its worker, as long as there is another worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_blocks_its_worker_holds_up_no_other() {
    let writing = tokio::spawn(async {
        let (written, reply) = std::sync::mpsc::channel();
        // It runs next, on this worker.
        let blocking = tokio::spawn(async move { reply.recv_timeout(Duration::from_secs(20)) });
        others().await;
        written.send(()).unwrap();
        blocking.await.unwrap()
    });
    assert_eq!(writing.await.unwrap(), Ok(()));
}
