//! A process of the service: a runtime of its own on paused time, which runs until it has done something
//! that others can see.
//!
//! Killing it is dropping the runtime with all its tasks, wherever they are. Freezing it is not running
//! it for a while; its clock goes on, so that it wakes up late.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use idempotent_runtime::Idempotency;
use tokio::runtime::Runtime;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::app;
use crate::ledger::Ledger;
use crate::link::{Emission, Link};
use crate::plan::{Millis, Plan};

/// Which process, and which life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId {
    pub slot: usize,
    pub generation: u32,
}

pub struct Process {
    pub id: ProcessId,
    runtime: Runtime,
    link: Link,
    pub idempotency: Idempotency,
    pub router: Router,
    /// The simulation's time at which it was started.
    started_at: Millis,
    start: Instant,
    /// How far it has run, by the simulation's time.
    pub local: Millis,
    pub frozen_until: Option<Millis>,
    pub is_shutting_down: bool,
}

impl Process {
    pub fn start(id: ProcessId, plan: &Plan, ledger: &Ledger, now: Millis) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let first_call = (id.slot as u64) << 48 | u64::from(id.generation) << 32;
        let link = Link::new(first_call, plan.notifications);
        let (idempotency, router, start) = {
            let _entered = runtime.enter();
            let start = Instant::now();
            let idempotency = app::handle(plan, id, &link, ledger, now);
            let router = app::router(id, &idempotency, ledger, now, start);
            (idempotency, router, start)
        };
        Self {
            id,
            runtime,
            link,
            idempotency,
            router,
            started_at: now,
            start,
            local: now,
            frozen_until: None,
            is_shutting_down: false,
        }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Runs until that time or until there is something to take, whichever is first.
    pub fn run_until(&mut self, until: Millis) -> Vec<Emission> {
        let deadline = self.start + Duration::from_millis(until - self.started_at);
        let link = &self.link;
        self.runtime.block_on(async {
            RunUntil {
                link,
                sleep: pin!(sleep_until(deadline)),
            }
            .await;
        });
        self.local = self.started_at + self.elapsed();
        self.link.take()
    }

    /// It stood still until that time, and its clock did not.
    pub fn thaw(&mut self, now: Millis) {
        self.frozen_until = None;
        let slept = now.saturating_sub(self.local);
        if slept > 0 {
            self.runtime
                .block_on(tokio::time::advance(Duration::from_millis(slept)));
        }
        self.local = self.started_at + self.elapsed();
    }

    fn elapsed(&self) -> Millis {
        let _entered = self.runtime.enter();
        self.start.elapsed().as_millis() as Millis
    }

    pub fn app_started_at(&self) -> Millis {
        self.started_at
    }

    pub fn app_start(&self) -> Instant {
        self.start
    }

    /// The process is gone at once. What is dropped with it can reach no store and no client.
    pub fn kill(self) {
        self.link.cut();
        let Self {
            runtime,
            idempotency,
            router,
            ..
        } = self;
        drop(runtime);
        drop((idempotency, router));
    }
}

struct RunUntil<'a> {
    link: &'a Link,
    sleep: Pin<&'a mut Sleep>,
}

impl Future for RunUntil<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.link.has_emissions(cx.waker()) {
            return Poll::Ready(());
        }
        self.sleep.as_mut().poll(cx)
    }
}
