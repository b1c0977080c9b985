//! Chance that can be had again: SplitMix64 (Steele, Lea, Flood 2014). For load and models, never for secrets.

/// A sequence that its seed decides.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    /// One of several; `all` is not empty.
    pub(super) fn one<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// How many of `of` events happen that each do with this probability. Above 32 the normal approximation.
    pub(super) fn binomial(&mut self, of: u64, probability: f64) -> u64 {
        if probability <= 0.0 || of == 0 {
            return 0;
        }
        if probability >= 1.0 {
            return of;
        }
        if of <= 32 {
            return (0..of).filter(|_| self.share() < probability).count() as u64;
        }
        let mean = of as f64 * probability;
        let drawn = mean + self.normal() * (mean * (1.0 - probability)).sqrt();
        (drawn.round().max(0.0) as u64).min(of)
    }

    /// How many arrive when so many do on average (Poisson). Above 32 the normal approximation.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > 32.0 {
            return (mean + self.normal() * mean.sqrt()).round().max(0.0) as u64;
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.share(), 0);
        while product > least {
            product *= self.share();
            count += 1;
        }
        count
    }

    /// Standard normal: twelve uniform numbers less six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_right_mean() {
        let mut dice = Dice::new(7);
        for mean in [0.3, 5.0, 400.0] {
            let drawn = (0..20_000).map(|_| dice.poisson(mean)).sum::<u64>() as f64 / 20_000.0;
            assert!((drawn / mean - 1.0).abs() < 0.05, "{drawn} for {mean}");
        }
        for (of, probability) in [(10, 0.2), (1_000, 0.7)] {
            let drawn = (0..20_000).map(|_| dice.binomial(of, probability)).sum::<u64>() as f64 / 20_000.0;
            assert!((drawn / (of as f64 * probability) - 1.0).abs() < 0.05, "{drawn} of {of}");
        }
        assert_eq!((dice.below(0), dice.binomial(9, 1.0), dice.binomial(9, 0.0)), (0, 9, 0));
        assert_eq!(Dice::new(3).next(), Dice::new(3).next());
    }
}
