//! Chance that can be repeated: numbers that a seed and a partition determine, the same on every machine.

/// A row of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

/// The means above which a Poisson number is drawn as a sum, so that its product does not vanish.
const POISSON_STEP: f64 = 30.0;

impl Random {
    /// Begins the row of a partition.
    pub(crate) fn new(seed: u64, partition: usize) -> Random {
        // Both are hashed: rows of neighbours must not be one row, a step apart.
        let (a, b) = (Random { state: seed }.word(), Random { state: !(partition as u64) }.word());
        Random { state: a ^ b.rotate_left(17) }
    }

    /// Returns 64 random bits. SplitMix64.
    pub(crate) fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a number below `n`, or 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(n)) >> 64) as u64
    }

    /// Returns how often something happens that happens `mean` times on average.
    pub(crate) fn poisson(&mut self, mut mean: f64) -> u64 {
        let mut count = 0;
        while mean > 0.0 {
            let (limit, mut product) = ((-mean.min(POISSON_STEP)).exp(), self.unit());
            while product > limit {
                count += 1;
                product *= self.unit();
            }
            mean -= POISSON_STEP;
        }
        count
    }

    /// Brings `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_for_ever_and_differ_between_partitions() {
        let row = |seed, p| {
            let mut random = Random::new(seed, p);
            [random.below(1000), random.below(1000), random.below(1000)]
        };
        assert_eq!(row(7, 0), KNOWN, "samples must not change between versions");
        assert_ne!(row(7, 0), row(7, 1));
        assert_ne!(row(7, 0), row(8, 0));
    }

    const KNOWN: [u64; 3] = [581, 392, 122];

    #[test]
    fn means_are_what_they_should_be() {
        let mut random = Random::new(1, 0);
        let n = 20_000;
        let unit = (0..n).map(|_| random.unit()).sum::<f64>() / f64::from(n);
        assert!((unit - 0.5).abs() < 0.01, "{unit}");
        for mean in [0.0, 0.3, 4.0, 75.0] {
            let drawn: Vec<f64> = (0..n).map(|_| random.poisson(mean) as f64).collect();
            let average = drawn.iter().sum::<f64>() / f64::from(n);
            let spread = drawn.iter().map(|x| (x - average).powi(2)).sum::<f64>() / f64::from(n);
            assert!((average - mean).abs() <= mean * 0.05, "{mean}: {average}");
            assert!((spread - mean).abs() <= mean * 0.1, "{mean}: {spread}");
        }
    }
}
