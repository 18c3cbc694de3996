//! When a certificate is to be renewed. Pure: times are Unix seconds that are handed in.

/// When a certificate that was issued at `since` and ends at `not_after` is to be renewed: after the fraction `at` of its life.
///
/// The life is not counted from NotBefore: Fabric's CA, and ours, puts its own NotBefore into everything that it issues
/// (spec 06 §4), which may be years ago. `since` is when the certificate came to this machine, the time of its file, which must
/// not lie before NotBefore or in the future.
#[must_use]
pub fn renewal_time(not_before: i64, not_after: i64, since: i64, now: i64, at: f64) -> i64 {
    let since = since.min(now).max(not_before).min(not_after);
    let life = not_after.saturating_sub(since);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a life is far below 2^53 seconds, and a fraction of it is no longer"
    )]
    let part = (life as f64 * at) as i64;
    since.saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn at_two_thirds_of_what_was_left_when_it_came() {
        let at = 2.0 / 3.0;
        assert_eq!(renewal_time(0, 90 * DAY, 0, DAY, at), 60 * DAY);
        // Issued by an authority that began ten years ago.
        assert_eq!(
            renewal_time(0, 3690 * DAY, 3600 * DAY, 3601 * DAY, at),
            3660 * DAY
        );
        // Written with a clock that was ahead: it counts from now.
        assert_eq!(renewal_time(0, 90 * DAY, 500 * DAY, 30 * DAY, at), 70 * DAY);
        // Over already: at once.
        assert!(renewal_time(0, 90 * DAY, 0, 100 * DAY, at) <= 100 * DAY);
        assert!(renewal_time(0, 90 * DAY, 95 * DAY, 100 * DAY, at) <= 100 * DAY);
        // Not begun: when two thirds of it are over.
        assert_eq!(renewal_time(30 * DAY, 60 * DAY, 0, 0, at), 50 * DAY);
    }
}
