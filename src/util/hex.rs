//! Bytes as hexadecimal digits. Knows nothing of what the bytes mean.

pub(crate) const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns the two digits of each byte, in lower case; `as_flattened` joins them.
pub(crate) fn encode<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits() {
        assert_eq!(encode(&[0x00, 0x0f, 0xa9, 0xff]).as_flattened(), b"000fa9ff");
    }
}
