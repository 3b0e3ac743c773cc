//! What excuses a history.

use super::*;

impl Judge {
    pub fn block(
        &mut self,
        process: Option<usize>,
        key: Option<RecordKey>,
        from: Millis,
        to: Millis,
    ) {
        self.blocked.push(Blocked {
            process,
            key,
            from,
            to,
        });
    }

    pub fn process_ended(&mut self, process: ProcessId, now: Millis) {
        self.ended.insert(process, now);
        for claimant in self.claimants.values_mut() {
            if claimant.process == process {
                claimant.pending_bytes = 0;
            }
        }
    }

    pub fn clock_stepped(&mut self, now: Millis, by: i64) {
        self.clock_steps.push((now, by));
    }

    pub fn removed(&mut self, key: RecordKey, life: Option<LifeId>, now: Millis) {
        self.removed.insert(key, now);
        self.forgotten(life);
    }

    pub fn forgotten(&mut self, life: Option<LifeId>) {
        if let Some(life) = life.and_then(|life| self.lives.get_mut(&life)) {
            life.is_tainted = true;
            self.forgotten.insert(life.key);
        }
    }
}
