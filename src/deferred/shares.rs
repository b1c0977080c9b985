//! How many jobs of each priority are claimed: by weight, so that none starves and the first still go first.
//!
//! Smooth weighted round robin: over any sum-of-weights draws each priority gets its weight, spread out evenly.

/// Draws priorities by weight.
#[derive(Debug)]
pub(super) struct Shares {
    weights: [i64; 3],
    credit: [i64; 3],
}

impl Shares {
    pub(super) fn new(weights: [u32; 3]) -> Self {
        Self { weights: weights.map(i64::from), credit: [0; 3] }
    }

    /// Splits a number of jobs: how many of high, medium and low.
    pub(super) fn split(&mut self, jobs: usize) -> [usize; 3] {
        let sum: i64 = self.weights.iter().sum();
        let mut wanted = [0; 3];
        for _ in 0..jobs {
            let mut first = 0;
            for place in 0..3 {
                self.credit[place] += self.weights[place];
                if self.credit[place] > self.credit[first] {
                    first = place;
                }
            }
            self.credit[first] -= sum;
            wanted[first] += 1;
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_weight_and_none_starves() {
        let mut shares = Shares::new([8, 3, 1]);
        assert_eq!(shares.split(12), [8, 3, 1]);
        assert_eq!(shares.split(120), [80, 30, 10]);
        assert_eq!(shares.split(1), [1, 0, 0], "the first is first");
        // One at a time comes to the same.
        let mut shares = Shares::new([8, 3, 1]);
        let mut drawn = [0; 3];
        for _ in 0..24 {
            let one = shares.split(1);
            (0..3).for_each(|place| drawn[place] += one[place]);
        }
        assert_eq!(drawn, [16, 6, 2]);
        assert_eq!(Shares::new([1, 1, 1]).split(0), [0, 0, 0]);
    }
}
