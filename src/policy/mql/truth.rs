//! Three-valued logic over what may not be known: a truth is the set of outcomes that are still possible.
//!
//! True, false and null are the three values of MQL (`reference`: Kleene). Something *unavailable* could still be any of
//! them, so it is the full set; connectives work outcome by outcome. A rule is undecided exactly when its outcome hangs on
//! what is not known: `false and unavailable` is false, `null and unavailable` can no longer match.

/// The set of outcomes still possible; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Truth(u8);

const T: u8 = 1;
const F: u8 = 2;
const N: u8 = 4;

impl Truth {
    /// Certainly true.
    pub const TRUE: Self = Self(T);
    /// Certainly false.
    pub const FALSE: Self = Self(F);
    /// Certainly null.
    pub const NULL: Self = Self(N);
    /// Anything: not available.
    pub const UNKNOWN: Self = Self(T | F | N);

    /// True or false, never null.
    pub const TRUE_OR_FALSE: Self = Self(T | F);

    /// Certainly true.
    pub fn is_true(self) -> bool {
        self.0 == T
    }

    /// Certainly false.
    pub fn is_false(self) -> bool {
        self.0 == F
    }

    /// Certainly null.
    pub fn is_null(self) -> bool {
        self.0 == N
    }

    /// Whether it may turn out true.
    pub fn may_be_true(self) -> bool {
        self.0 & T != 0
    }

    /// Whether there is only one outcome.
    pub fn is_settled(self) -> bool {
        self.0.is_power_of_two()
    }

    /// Kleene's and, outcome by outcome.
    pub fn and(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        let both = a & b & T;
        let either_false = (a | b) & F;
        // Null: one is null and the other is null or true.
        let null = (a & N != 0 && b & (N | T) != 0) || (b & N != 0 && a & (N | T) != 0);
        Self(both | either_false | if null { N } else { 0 })
    }

    /// Kleene's or, outcome by outcome.
    pub fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    /// Kleene's not, outcome by outcome.
    #[allow(clippy::should_implement_trait, reason = "named as the language names it")]
    pub fn not(self) -> Self {
        Self(self.0 & N | (self.0 & T) << 1 | (self.0 & F) >> 1)
    }

    /// `N of`: true when at least `needed` are true, else null when one is null, else false; outcome by outcome.
    pub fn at_least(needed: usize, clauses: impl Iterator<Item = Self>) -> Self {
        let (mut sure, mut possible, mut sure_null, mut maybe_null) = (0, 0, false, false);
        for clause in clauses {
            sure += usize::from(clause.is_true());
            possible += usize::from(clause.may_be_true());
            sure_null |= clause.is_null();
            maybe_null |= clause.0 & N != 0;
        }
        if sure >= needed {
            return Self::TRUE;
        }
        let mut set = if possible >= needed { T } else { 0 };
        // Not enough trues: null if any clause is null, else false.
        set |= if maybe_null { N } else { 0 };
        set |= if sure_null { 0 } else { F };
        Self(set)
    }

    /// What is left when a null is replaced: `coalesce(self, other)`.
    pub fn or_else(self, other: Self) -> Self {
        if self.0 & N == 0 { self } else { Self(self.0 & !N | other.0) }
    }
}

impl From<bool> for Truth {
    fn from(is: bool) -> Self {
        if is { Self::TRUE } else { Self::FALSE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Truth; 3] = [Truth::TRUE, Truth::FALSE, Truth::NULL];

    fn sets() -> impl Iterator<Item = Truth> {
        (1..8).map(Truth)
    }

    fn members(set: Truth) -> impl Iterator<Item = Truth> {
        ALL.into_iter().filter(move |one| set.0 & one.0 != 0)
    }

    #[test]
    fn kleene_tables() {
        let (t, f, n) = (Truth::TRUE, Truth::FALSE, Truth::NULL);
        let and = [[t, f, n], [f, f, f], [n, f, n]];
        let or = [[t, t, t], [t, f, n], [t, n, n]];
        for (i, a) in ALL.into_iter().enumerate() {
            for (j, b) in ALL.into_iter().enumerate() {
                assert_eq!(a.and(b), and[i][j], "{a:?} and {b:?}");
                assert_eq!(a.or(b), or[i][j], "{a:?} or {b:?}");
            }
        }
        assert_eq!(ALL.map(Truth::not), [f, t, n]);
    }

    #[test]
    fn sets_are_the_union_over_their_members() {
        for a in sets() {
            for b in sets() {
                let (mut and, mut or) = (0, 0);
                for x in members(a) {
                    for y in members(b) {
                        and |= x.and(y).0;
                        or |= x.or(y).0;
                    }
                }
                assert_eq!((a.and(b).0, a.or(b).0), (and, or), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn at_least_is_the_union_over_its_members() {
        for needed in 0..4 {
            for a in sets() {
                for b in sets() {
                    for c in sets() {
                        let mut union = 0;
                        for x in members(a) {
                            for y in members(b) {
                                for z in members(c) {
                                    let trues = [x, y, z].iter().filter(|v| v.is_true()).count();
                                    let nulls = [x, y, z].iter().any(|v| v.is_null());
                                    union |= if trues >= needed {
                                        T
                                    } else if nulls {
                                        N
                                    } else {
                                        F
                                    };
                                }
                            }
                        }
                        let got = Truth::at_least(needed, [a, b, c].into_iter());
                        // Never less than what is possible; and whether it can be true is exact.
                        assert_eq!(got.0 & union, union, "{needed} of {a:?} {b:?} {c:?}");
                        assert_eq!(got.0 & T, union & T, "{needed} of {a:?} {b:?} {c:?}");
                        if [a, b, c].into_iter().all(Truth::is_settled) {
                            assert_eq!(got.0, union);
                        }
                    }
                }
            }
        }
    }
}
