//! Splitting an amount by shares, exactly.

use crate::model::WHOLE;

/// Splits `units` by weights that add up to [`WHOLE`]: each gets its share rounded down, and what is left goes, one unit
/// each, to those with the largest fractions, the earlier of equal ones first. So the parts add up to `units`.
pub fn split(units: u128, weights: &[u32]) -> Vec<u128> {
    let whole = u128::from(WHOLE);
    // Whole and rest of `units` apart, so that no product exceeds a u128.
    let (many, few) = (units / whole, units % whole);
    let exact = |weight: u32| {
        let weight = u128::from(weight);
        let rest = few * weight;
        (
            many.saturating_mul(weight).saturating_add(rest / whole),
            rest % whole,
        )
    };
    let shares: Vec<(u128, u128)> = weights.iter().map(|weight| exact(*weight)).collect();
    let mut parts: Vec<u128> = shares.iter().map(|(part, _)| *part).collect();
    let given: u128 = parts.iter().sum();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    // Stable: of equal fractions the earlier comes first.
    order.sort_by_key(|at| std::cmp::Reverse(shares.get(*at).map(|(_, fraction)| *fraction)));
    let left = usize::try_from(units.saturating_sub(given)).unwrap_or(0);
    for at in order.into_iter().take(left) {
        if let Some(part) = parts.get_mut(at) {
            *part += 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(split(100_000, &[5000, 3000, 2000]), [50_000, 30_000, 20_000]);
        assert_eq!(split(100, &[3334, 3333, 3333]), [34, 33, 33]);
        assert_eq!(split(1, &[5000, 5000]), [1, 0]);
        assert_eq!(split(0, &[5000, 5000]), [0, 0]);
    }

    proptest! {
        #[test]
        fn parts_add_up_and_are_fair(
            units in 0u128..=10u128.pow(30),
            cuts in proptest::collection::vec(1u32..WHOLE, 0..10),
        ) {
            let mut cuts = cuts;
            cuts.extend([0, WHOLE]);
            cuts.sort_unstable();
            cuts.dedup();
            let weights: Vec<u32> = cuts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let parts = split(units, &weights);
            prop_assert_eq!(parts.iter().sum::<u128>(), units);
            for (part, weight) in parts.iter().zip(&weights) {
                // Nobody is off by a whole unit.
                let exact = units * u128::from(*weight);
                let got = part * u128::from(WHOLE);
                prop_assert!(got.abs_diff(exact) < u128::from(WHOLE), "{part} of {units} for {weight}");
            }
        }
    }
}
