//! Digits that are not mistaken for each other when somebody reads them out (Crockford's base32).

const DIGITS: [char; 32] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'M', 'N', 'P',
    'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
];

/// The lowest bits of a number as so many digits, at most 12.
pub(super) fn digits(bits: u64, count: u32) -> String {
    let digit = |place: u32| {
        let index = usize::try_from(bits.checked_shr(5 * place).unwrap_or(0) & 31).unwrap_or_default();
        DIGITS.get(index).copied().unwrap_or_default()
    };
    (0..count).map(digit).collect()
}

/// What somebody has typed as digits: in upper case, without hyphens and spaces, with the digits in place of letters that look like
/// them. What is no digit stays.
pub(super) fn typed(text: &str) -> String {
    let digits = text.chars().filter(|digit| !matches!(digit, '-' | ' '));
    let digits = digits.map(|digit| match digit.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        digit => digit,
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_stands_for_five_bits() {
        assert_eq!(digits(0, 4), "0000");
        assert_eq!(digits(31 | 17 << 5, 3), "ZH0");
        assert_eq!(digits(u64::MAX, 13).len(), 13);
        let all: String = (0..32).map(|bits| digits(bits, 1)).collect();
        assert!(all.len() == 32 && !all.contains(['I', 'L', 'O', 'U']), "{all}");
        assert_eq!(typed(&all.to_lowercase()), all);
        assert_eq!(typed(" oil-9 "), "0119");
    }
}
