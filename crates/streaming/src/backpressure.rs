//! How fast a stream may come in, by how fast its last batches were processed. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::{Error, ErrorKind, Result, Time};

use crate::conf::StreamingConf;
use crate::input::Rate;
use crate::listener::BatchInfo;

/// What a [`PidRateEstimator`] goes by.
///
/// # Spark
///
/// `spark.streaming.backpressure.pid.*`, R-54.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PidConf {
    /// How much the last error counts. 1; not below 0. Spark's `spark.streaming.backpressure.pid.proportional`, K-4.
    pub proportional: f64,
    /// How much counts what has piled up. 0.2; not below 0. Spark's `spark.streaming.backpressure.pid.integral`, K-5.
    pub integral: f64,
    /// How much the change of the error counts. 0; not below 0. Spark's `spark.streaming.backpressure.pid.derived`, K-6.
    pub derived: f64,
    /// The least rate that is ever estimated, in records a second. 100; above 0. Spark's
    /// `spark.streaming.backpressure.pid.minRate`, K-7.
    pub min_rate: f64,
}

impl Default for PidConf {
    fn default() -> PidConf {
        PidConf { proportional: 1.0, integral: 0.2, derived: 0.0, min_rate: 100.0 }
    }
}

/// A batch that ended, as a rate is estimated from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchLoad {
    /// When it ended, in milliseconds since any moment.
    pub end: f64,
    /// How many records the stream gave it.
    pub records: u64,
    /// How long its outputs took, in milliseconds.
    pub processing: f64,
    /// How long it waited to be run, in milliseconds.
    pub scheduling: f64,
}

/// Estimates at what rate records can be processed: a controller with a proportional, an integral and a derived part.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_streaming::{BatchLoad, PidConf, PidRateEstimator};
///
/// let mut estimator = PidRateEstimator::new(secs(1), PidConf::default())?;
/// let load = BatchLoad { end: 1000.0, records: 5000, processing: 2000.0, scheduling: 0.0 };
/// assert_eq!(estimator.compute(load), None, "the first batch is what later ones are compared with");
/// // 2,500 a second were processed, but a second's worth has piled up.
/// assert_eq!(estimator.compute(BatchLoad { end: 3000.0, scheduling: 1000.0, ..load }), Some(2000.0));
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `PIDRateEstimator`, RT01 to RT03, R-53. Delays are not cut to whole milliseconds, so that short batches count too.
#[derive(Clone, Debug)]
pub struct PidRateEstimator {
    interval: f64,
    conf: PidConf,
    /// The end, the rate and the error of the last batch that counted.
    last: Option<(f64, f64, f64)>,
}

impl PidRateEstimator {
    /// Makes an estimator for batches of `interval`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: a parameter is out of its bounds.
    pub fn new(interval: Duration, conf: PidConf) -> Result<PidRateEstimator> {
        let PidConf { proportional, integral, derived, min_rate } = conf;
        let refuse = |name, least, value| {
            let text = format!("setting backpressure.pid.{name} must be a number {least}: `{value}`");
            Err(Error::new(ErrorKind::Config, text))
        };
        for (name, value) in [("proportional", proportional), ("integral", integral), ("derived", derived)] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(name, "of at least 0", value);
            }
        }
        if !(min_rate.is_finite() && min_rate > 0.0) {
            return refuse("minRate", "above 0", min_rate);
        }
        if interval.is_zero() {
            return Err(Error::new(ErrorKind::Config, "a batch interval must be more than nothing: `0`"));
        }
        Ok(PidRateEstimator { interval: interval.as_secs_f64() * 1000.0, conf, last: None })
    }

    /// Returns a new rate, in records a second.
    ///
    /// The first batch that counts gives none. One that did not end after the last, had no records or took no time does not count.
    pub fn compute(&mut self, load: BatchLoad) -> Option<f64> {
        let BatchLoad { end, records, processing, scheduling } = load;
        let is_later = self.last.is_none_or(|(before, ..)| end > before);
        if !(is_later && records > 0 && processing > 0.0) {
            return None;
        }
        let rate = records as f64 / processing * 1000.0;
        let Some((before, last_rate, last_error)) = self.last else {
            self.last = Some((end, rate, 0.0));
            return None;
        };
        let error = last_rate - rate;
        let history = scheduling * rate / self.interval;
        let change = (error - last_error) / ((end - before) / 1000.0);
        let PidConf { proportional, integral, derived, min_rate } = self.conf;
        let new = (last_rate - proportional * error - integral * history - derived * change).max(min_rate);
        self.last = Some((end, new, error));
        Some(new)
    }
}

/// Makes the rate of one stream from the batches that end. Spark's `RateController`, RT04.
#[derive(Debug)]
pub(crate) struct RateController {
    estimator: PidRateEstimator,
    /// Nothing before the first estimate; Spark's −1.
    latest: Option<Rate>,
}

impl RateController {
    /// Takes a batch that ended and returns the rate to publish, if there is a new one: whole, and above zero (R-56).
    fn completed(&mut self, load: BatchLoad) -> Option<Rate> {
        let rate = self.estimator.compute(load)?.floor();
        if rate < 1.0 {
            return None;
        }
        self.latest = Some(Rate(rate));
        self.latest
    }
}

/// How long a batch waited and took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Delays {
    pub(crate) end: f64,
    pub(crate) processing: f64,
    pub(crate) scheduling: f64,
}

impl Delays {
    /// Reads them from a batch that has ended: to the nanosecond from its stamps where `woken`, to which they count, is given;
    /// else by the clock, which may be moved by hand.
    pub(crate) fn of(batch: &BatchInfo, woken: Option<Duration>) -> Option<Delays> {
        let millis = |length: Duration| length.as_secs_f64() * 1000.0;
        match woken {
            Some(woken) => {
                let (started, ended) = (batch.stamps.started?, batch.stamps.ended?);
                Some(Delays {
                    end: millis(woken + ended),
                    processing: millis(ended.saturating_sub(started)),
                    scheduling: millis(started.saturating_sub(batch.stamps.submitted)),
                })
            }
            None => Some(Delays {
                end: millis(batch.processing_end_time? - Time::ZERO),
                processing: millis(batch.processing_delay()?),
                scheduling: millis(batch.scheduling_delay()?),
            }),
        }
    }
}

/// The rates of all streams that keep to one, by the input's number.
#[derive(Debug, Default)]
pub(crate) struct RateControllers {
    streams: BTreeMap<u64, RateController>,
    initial: Option<Rate>,
}

impl RateControllers {
    /// Makes a controller for each of `streams`, if the settings ask for that. All are fresh, also after a restart (R-60).
    pub(crate) fn new(
        streams: impl Iterator<Item = u64>,
        conf: &StreamingConf,
        interval: Duration,
    ) -> Result<RateControllers> {
        let mut controllers = RateControllers {
            streams: BTreeMap::new(),
            initial: conf.backpressure_initial_rate.map(|r| Rate(r as f64)),
        };
        if conf.backpressure {
            let estimator = PidRateEstimator::new(interval, conf.pid)?;
            controllers.streams =
                streams.map(|n| (n, RateController { estimator: estimator.clone(), latest: None })).collect();
        }
        Ok(controllers)
    }

    /// Says whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns the rate that a stream is to keep to now.
    pub(crate) fn limit(&self, stream: u64) -> Option<Rate> {
        self.streams.get(&stream).and_then(|controller| controller.latest.or(self.initial))
    }

    /// Takes a batch that ended and returns the new rates (R-52).
    pub(crate) fn completed(&mut self, batch: &BatchInfo, delays: Delays) -> Vec<(u64, Rate)> {
        let Delays { end, processing, scheduling } = delays;
        let rates = self.streams.iter_mut().filter_map(|(number, controller)| {
            let records = batch.inputs.get(number)?.records;
            Some((*number, controller.completed(BatchLoad { end, records, processing, scheduling })?))
        });
        rates.collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::{millis, secs};

    use super::*;
    use crate::listener::{BatchStamps, InputInfo};

    fn estimator(interval: u64, [proportional, integral, derived]: [f64; 3], min_rate: f64) -> PidRateEstimator {
        PidRateEstimator::new(millis(interval), PidConf { proportional, integral, derived, min_rate })
            .expect("the parameters make sense")
    }

    fn load(end: f64, records: u64, processing: f64, scheduling: f64) -> BatchLoad {
        BatchLoad { end, records, processing, scheduling }
    }

    #[test]
    fn r54_parameters_that_make_no_sense_are_refused_by_name() {
        assert_eq!(
            PidConf::default(),
            PidConf { proportional: 1.0, integral: 0.2, derived: 0.0, min_rate: 100.0 },
            "R-54"
        );
        let bad: [(&str, fn(&mut PidConf)); 7] = [
            ("proportional", |pid| pid.proportional = -1.0),
            ("integral", |pid| pid.integral = -0.1),
            ("derived", |pid| pid.derived = f64::NAN),
            ("proportional", |pid| pid.proportional = f64::INFINITY),
            ("minRate", |pid| pid.min_rate = 0.0),
            ("minRate", |pid| pid.min_rate = -5.0),
            ("minRate", |pid| pid.min_rate = f64::NAN),
        ];
        for (name, change) in bad {
            let mut conf = PidConf::default();
            change(&mut conf);
            let error = PidRateEstimator::new(secs(1), conf).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("setting backpressure.pid.{name} must be")), "{error}");
        }
        let error = PidRateEstimator::new(Duration::ZERO, PidConf::default()).expect_err("no interval");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn r53_the_formula_by_hand() {
        // P 0.5, I 0.25, D 0.125, batches of a second, never below 10.
        let mut pid = estimator(1000, [0.5, 0.25, 0.125], 10.0);
        let rows = [
            (load(1000.0, 100, 500.0, 0.0), None), // the first: rate 200, error 0
            // rate 100, error 100, history 0, change 100/s: 200 − 50 − 12.5
            (load(2000.0, 100, 1000.0, 0.0), Some(137.5)),
            // rate 50, error 87.5, history 100, change −12.5 in half a second, −25/s: 137.5 − 43.75 − 25 + 3.125
            (load(2500.0, 100, 2000.0, 2000.0), Some(71.875)),
            (load(2500.0, 100, 2000.0, 0.0), None), // no later: nothing changes
            (load(9000.0, 0, 2000.0, 0.0), None),   // no records
            (load(9000.0, 100, 0.0, 0.0), None),    // no time
            // rate 1, error 70.875, history 1, change −16.625/s: 71.875 − 35.4375 − 0.25 + 2.078125
            (load(3500.0, 1, 1000.0, 1000.0), Some(38.265_625)),
            (load(4500.0, 1, 1000.0, 999_000.0), Some(10.0)), // never below the least
        ];
        for (n, (row, want)) in rows.into_iter().enumerate() {
            assert_eq!(pid.compute(row), want, "row {n}");
        }
    }

    #[test]
    fn r55_there_is_no_estimate_first_nor_without_time_records_or_delay() {
        let fresh = || {
            let mut pid = estimator(20, [1.0, 1.0, 0.0], 10.0);
            assert_eq!(pid.compute(load(0.0, 10, 10.0, 0.0)), None, "the first");
            pid
        };
        assert!(fresh().compute(load(10.0, 10, 10.0, 0.0)).is_some(), "the second");
        let mut pid = fresh();
        assert!(pid.compute(load(10.0, 10, 10.0, 0.0)).is_some());
        assert_eq!(pid.compute(load(10.0, 10, 10.0, 0.0)), None, "no time has passed");
        assert_eq!(fresh().compute(load(10.0, 0, 10.0, 0.0)), None, "no records");
        assert_eq!(fresh().compute(load(10.0, 10, 0.0, 0.0)), None, "no delay");
    }

    #[test]
    fn r55_an_estimate_is_never_below_the_least() {
        let mut pid = estimator(20, [1.0, 1.0, 0.0], 5.0);
        let rates: Vec<_> =
            (1..=100).filter_map(|n| pid.compute(load(f64::from(n), 1, 1000.0, f64::from(n)))).collect();
        assert_eq!(rates.len(), 99);
        assert!(rates.iter().all(|rate| *rate >= 5.0), "{rates:?}");
    }

    #[test]
    fn r55_without_a_scheduling_delay_the_rate_follows_the_processing_speed() {
        let mut pid = estimator(20, [1.0, 1.0, 0.0], 10.0);
        let rates = (0..50).map(|n| pid.compute(load(f64::from(n) * 20.0, u64::from(n as u32 + 1) * 20, 20.0, 0.0)));
        let want = (0..50).map(|n| (n > 0).then(|| f64::from(n + 1) * 1000.0));
        assert_eq!(rates.collect::<Vec<_>>(), want.collect::<Vec<_>>(), "ever more records in the same time");
        let mut pid = estimator(20, [1.0, 1.0, 0.0], 10.0);
        let rates: Vec<_> =
            (0..50).map(|n| pid.compute(load(f64::from(n) * 20.0, 1000, f64::from(50 - n), 0.0))).collect();
        for (n, rate) in (1..).zip(&rates[1..]) {
            let want = 1000.0 / f64::from(50 - n) * 1000.0;
            assert!(rate.is_some_and(|rate| (rate - want).abs() < want * 1e-9), "ever less time: {rate:?} for {want}");
        }
    }

    #[test]
    fn r55_with_a_scheduling_delay_the_rate_stays_below_the_processing_speed() {
        let mut pid = estimator(20, [1.0, 0.01, 0.0], 10.0);
        let mut seed = 42u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below + 1
        };
        pid.compute(load(0.0, 1, 1.0, 1.0));
        for n in 1..1000 {
            let (records, processing, scheduling) = (random(100_000), random(1000) as f64, random(1000) as f64);
            let speed = records as f64 / processing * 1000.0;
            let rate = pid.compute(load(f64::from(n) * 20.0, records, processing, scheduling));
            assert!(rate.is_some_and(|rate| rate < speed || rate == 10.0), "{rate:?} for {speed}");
        }
    }

    #[test]
    fn delays_count_by_fractions_of_a_millisecond_and_by_a_clock_of_ones_own_as_it_tells() {
        let micros = |n| Some(Duration::from_micros(n));
        let batch = BatchInfo {
            batch_time: Time::from_millis(1000),
            inputs: BTreeMap::from([(0, InputInfo { records: 10, ..InputInfo::default() })]),
            submission_time: Time::from_millis(1000),
            processing_start_time: Some(Time::from_millis(1007)),
            processing_end_time: Some(Time::from_millis(1010)),
            outputs: Vec::new(),
            stamps: BatchStamps {
                submitted: Duration::from_micros(100),
                started: micros(350),
                ended: micros(850),
                ..BatchStamps::default()
            },
        };
        let by_clock = Delays::of(&batch, None).expect("it has ended");
        assert_eq!(by_clock, Delays { end: 1010.0, processing: 3.0, scheduling: 7.0 });
        let Delays { end, processing, scheduling } = Delays::of(&batch, Some(secs(2))).expect("it has ended");
        for (got, want) in [(end, 2000.85), (processing, 0.5), (scheduling, 0.25)] {
            assert!((got - want).abs() < 1e-9, "{got} for {want}");
        }
        assert_eq!(Delays::of(&BatchInfo { processing_end_time: None, ..batch }, None), None);
    }

    #[test]
    fn r56_a_rate_below_one_is_not_published_and_r60_controllers_begin_afresh() {
        let conf = StreamingConf {
            pid: PidConf { min_rate: 0.5, ..PidConf::default() },
            backpressure_initial_rate: Some(7),
            ..StreamingConf::default()
        };
        let mut controllers = RateControllers::new([3].into_iter(), &conf, secs(1)).expect("it makes sense");
        assert_eq!(controllers.limit(3), Some(Rate(7.0)), "K-2: before the first estimate");
        assert_eq!(controllers.limit(4), None);
        let controller = controllers.streams.get_mut(&3).expect("it has one");
        assert_eq!(controller.latest, None, "Spark says −1");
        assert_eq!(controller.completed(load(1.0, 10, 1000.0, 0.0)), None);
        assert_eq!(controller.completed(load(2.0, 125, 10_000.0, 0.0)), Some(Rate(12.0)), "whole records");
        assert_eq!(controller.completed(load(3.0, 1, 10_000.0, 0.0)), None, "half a record a second");
        assert_eq!(controllers.limit(3), Some(Rate(12.0)));
        let off = StreamingConf { backpressure: false, ..conf };
        assert!(RateControllers::new([3].into_iter(), &off, secs(1)).expect("it makes sense").is_empty());
    }
}
