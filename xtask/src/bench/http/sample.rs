//! One server under load once, and what several such samples say together.

use super::super::machine::{CoreTime, Cores, process_micros, resident_mb};
use super::implementations::Implementation;
use super::server::Server;
use super::wrk::{Load, Wrk};

/// Above this much of its time, a core is as busy as it can be.
const SATURATED: f64 = 0.95;

/// More than this of the server's core for other processes, and they have been measured too.
const DISTURBED: f64 = 0.05;

#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) rps: f64,
    pub(super) server_cpu_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) rss_mb: f64,
    pub(super) executions_per_request: f64,
    /// How busy the server's core was, from 0 to 1, and the load generator's.
    pub(super) server_core: f64,
    pub(super) load_core: f64,
    /// How much of its core the server itself has used.
    pub(super) server_share: f64,
}

impl Sample {
    pub(super) fn take(
        server: &Server,
        cores: Cores,
        wrk: &Wrk,
        load: &Load<'_>,
    ) -> Result<Self, String> {
        let read = || -> Result<_, String> {
            let cores = (CoreTime::read(cores.server)?, CoreTime::read(cores.load)?);
            Ok((cores, process_micros(server.pid())?, server.executions()?))
        };
        let (cores_before, micros_before, executions_before) = read()?;
        let outcome = wrk.run(server.address, load)?;
        let (cores_after, micros_after, executions_after) = read()?;
        let micros = micros_after - micros_before;
        Ok(Self {
            rps: outcome.requests / outcome.seconds,
            server_cpu_us: micros / outcome.requests,
            p50_us: outcome.p50_us,
            p99_us: outcome.p99_us,
            rss_mb: resident_mb(server.pid())?,
            executions_per_request: (executions_after - executions_before) / outcome.requests,
            server_core: cores_after.0.busy_since(cores_before.0),
            load_core: cores_after.1.busy_since(cores_before.1),
            server_share: micros / 1e6 / outcome.seconds,
        })
    }
}

/// An implementation in one mode with one size of body: the medians over all rounds.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) implementation: &'static Implementation,
    pub(super) mode: &'static str,
    pub(super) body_bytes: u32,
    pub(super) median: Sample,
    /// The median of the ratios of each round, which is not the ratio of the medians.
    pub(super) ratio: f64,
    /// The lowest and the highest of them.
    pub(super) ratios: (f64, f64),
}

impl Row {
    /// `pairs` are this implementation's samples, each with bare axum's of the same round.
    pub(super) fn new(
        implementation: &'static Implementation,
        mode: &'static str,
        body_bytes: u32,
        pairs: &[(Sample, Sample)],
    ) -> Option<Self> {
        let of =
            |value: fn(&Sample) -> f64| median(pairs.iter().map(|(own, _)| value(own)).collect());
        let mut ratios: Vec<f64> = pairs.iter().map(|(own, bare)| own.rps / bare.rps).collect();
        ratios.sort_by(f64::total_cmp);
        Some(Self {
            implementation,
            mode,
            body_bytes,
            ratio: median(ratios.clone())?,
            ratios: (*ratios.first()?, *ratios.last()?),
            median: Sample {
                rps: of(|sample| sample.rps)?,
                server_cpu_us: of(|sample| sample.server_cpu_us)?,
                p50_us: of(|sample| sample.p50_us)?,
                p99_us: of(|sample| sample.p99_us)?,
                rss_mb: of(|sample| sample.rss_mb)?,
                executions_per_request: of(|sample| sample.executions_per_request)?,
                server_core: of(|sample| sample.server_core)?,
                load_core: of(|sample| sample.load_core)?,
                server_share: of(|sample| sample.server_share)?,
            },
        })
    }

    /// Why this row is to be read with care, if it is.
    pub(super) fn caveat(&self) -> &'static str {
        let Sample {
            server_core,
            load_core,
            server_share,
            ..
        } = self.median;
        if load_core >= SATURATED && server_core < SATURATED {
            "limited by the other core"
        } else if server_core - server_share > DISTURBED {
            "the server's core was shared"
        } else if server_core < SATURATED {
            "waits"
        } else {
            ""
        }
    }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.len() / 2, values.len().checked_sub(1)? / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

#[cfg(test)]
impl Sample {
    /// So many requests a second, with nothing else to remark.
    pub(super) fn of_rate(rps: f64) -> Self {
        Self {
            rps,
            server_cpu_us: 10.0,
            p50_us: 1.0,
            p99_us: 2.0,
            rss_mb: 3.0,
            executions_per_request: 1.0,
            server_core: 1.0,
            load_core: 0.8,
            server_share: 0.99,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::implementations::ALL;
    use super::*;

    fn row(pairs: &[(Sample, Sample)]) -> Row {
        Row::new(&ALL[0], "first", 200, pairs).unwrap()
    }

    #[test]
    fn ratio_is_the_median_of_the_pairs_and_not_a_ratio_of_medians() {
        let rates = [(50.0, 100.0), (90.0, 100.0), (8.0, 10.0)];
        let pairs = rates.map(|(own, bare)| (Sample::of_rate(own), Sample::of_rate(bare)));
        let row = row(&pairs);
        assert_eq!(row.ratio, 0.8);
        assert_eq!(row.ratios, (0.5, 0.9));
        assert_eq!(row.median.rps, 50.0);
    }

    #[test]
    fn median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_number_that_is_not_the_servers_is_remarked_on() {
        let own = Sample::of_rate(50.0);
        for (server_core, server_share, load_core, caveat) in [
            (1.0, 0.99, 0.8, ""),
            (1.0, 0.99, 1.0, ""),
            (0.8, 0.79, 1.0, "limited by the other core"),
            (1.0, 0.9, 0.8, "the server's core was shared"),
            (0.5, 0.49, 0.6, "waits"),
        ] {
            let sample = Sample {
                server_core,
                server_share,
                load_core,
                ..own
            };
            assert_eq!(row(&[(sample, own)]).caveat(), caveat);
        }
    }
}
