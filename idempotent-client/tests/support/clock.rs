//! A clock that stands still until it is told to go on.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use idempotent_client::{Clock, Pause};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Back-off ends at once and is recorded; a timeout comes when [`FakeClock::fire_timeout`] says so.
#[derive(Debug)]
pub struct FakeClock {
    random: f64,
    begun: Instant,
    state: Mutex<State>,
    timeout: Arc<Notify>,
    waiting: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    now: SystemTime,
    elapsed: Duration,
    waits: Vec<Duration>,
    timeouts: Vec<Duration>,
    jump_per_wait: Duration,
    hangs: bool,
}

impl FakeClock {
    pub fn new(now: SystemTime, random: f64) -> Arc<Self> {
        Arc::new(Self {
            random,
            begun: Instant::now(),
            state: Mutex::new(State {
                now,
                elapsed: Duration::ZERO,
                waits: Vec::new(),
                timeouts: Vec::new(),
                jump_per_wait: Duration::ZERO,
                hangs: false,
            }),
            timeout: Arc::default(),
            waiting: Arc::default(),
        })
    }

    pub fn set(&self, now: SystemTime, elapsed: Duration) {
        let mut state = self.state.lock().unwrap();
        state.now = now;
        state.elapsed = elapsed;
    }

    /// How far the wall clock jumps during each wait.
    pub fn jump_per_wait(&self, jump: Duration) {
        self.state.lock().unwrap().jump_per_wait = jump;
    }

    /// From now on no wait ends.
    pub fn hang(&self) {
        self.state.lock().unwrap().hangs = true;
    }

    /// Ends when a wait has begun.
    pub async fn until_waiting(&self) {
        self.waiting.notified().await;
    }

    pub fn waits(&self) -> Vec<Duration> {
        self.state.lock().unwrap().waits.clone()
    }

    pub fn timeouts(&self) -> Vec<Duration> {
        self.state.lock().unwrap().timeouts.clone()
    }

    /// The try that is running takes too long. If none waits yet, the next one does.
    pub fn fire_timeout(&self) {
        self.timeout.notify_one();
    }
}

impl Clock for FakeClock {
    fn now(&self) -> SystemTime {
        self.state.lock().unwrap().now
    }

    fn instant(&self) -> Instant {
        self.begun + self.state.lock().unwrap().elapsed
    }

    fn random(&self) -> f64 {
        self.random
    }

    fn sleep(&self, duration: Duration, pause: Pause) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.state.lock().unwrap();
        if pause == Pause::Timeout {
            state.timeouts.push(duration);
            let timeout = Arc::clone(&self.timeout);
            return Box::pin(async move { timeout.notified().await });
        }
        state.waits.push(duration);
        let jump = state.jump_per_wait;
        state.now += jump;
        self.waiting.notify_one();
        if state.hangs {
            return Box::pin(std::future::pending());
        }
        Box::pin(async {})
    }
}
