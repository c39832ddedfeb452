//! Amounts: the chain counts rao, people TAO.

const RAO_DIGITS: usize = 9;
const RAO_PER_TAO: u64 = 1_000_000_000;

/// An amount of rao in words, such as `0.1 TAO`.
pub fn tao(rao: u64) -> String {
    let text = format!("{}.{:09}", rao / RAO_PER_TAO, rao % RAO_PER_TAO);
    format!("{} TAO", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The rao of an amount of TAO in digits, such as `0.1`; nothing for what is no such amount or has more than nine decimals.
pub fn parse_tao(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() == usize::from(text.contains('.'))
        || !digits(whole)
        || !digits(decimals)
        || decimals.len() > RAO_DIGITS
    {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    number(whole)?.checked_mul(RAO_PER_TAO)?.checked_add(number(&format!("{decimals:0<RAO_DIGITS$}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_and_read_exactly() {
        for (rao, text) in
            [(0, "0"), (1, "0.000000001"), (100_000_000, "0.1"), (1_500_000_000, "1.5"), (RAO_PER_TAO, "1")]
        {
            assert_eq!(tao(rao), format!("{text} TAO"));
            assert_eq!(parse_tao(text), Some(rao));
        }
        assert_eq!((parse_tao(".5"), parse_tao("5.")), (Some(500_000_000), Some(5_000_000_000)));
        for wrong in ["", ".", "-1", "1e3", "0.0000000001", "1,5", "0x1", " 1", "18446744074", "1.2.3"] {
            assert_eq!(parse_tao(wrong), None, "{wrong}");
        }
    }
}
