//! The nearest of several names, for "did you mean".

/// The name among `names` that `wrong` was most likely meant to be; `None` where none is close.
///
/// Case, spaces and `_` count for nothing. At most a third of the letters may differ, or the end be missing.
#[must_use]
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).take(64).flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(wrong);
    if wanted.is_empty() {
        return None;
    }
    let distance_max = (wanted.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| {
            let plain_name = plain(name);
            let cut = wanted.len() > 2 && plain_name.starts_with(&wanted);
            (if cut { 1 } else { strsim::damerau_levenshtein(&wanted, &plain_name) }, name)
        })
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let names = ["pickup_at", "fare_amount", "tip_amount"];
        for (wrong, right) in [
            ("pickup_a", Some("pickup_at")),
            ("PickupAt", Some("pickup_at")),
            ("fare_amuont", Some("fare_amount")),
            ("tipamount", Some("tip_amount")),
            ("pick", Some("pickup_at")),
            ("zone", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, names), right, "{wrong}");
        }
    }
}
