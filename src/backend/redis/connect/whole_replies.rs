//! Owns how the replies that come most often are recognised once they have arrived whole: `OK`, and strings. Knows
//! nothing of streams.

/// The reply `OK`.
pub(crate) const OK: &[u8] = b"+OK\r\n";

/// The length of a string has at most so many digits.
const MOST_DIGITS: usize = 8;

/// Returns the string of the first reply, and the length of the reply. Returns `None` if it has not arrived whole, is
/// longer than `longest`, or is anything else.
pub(crate) fn string(received: &[u8], longest: u64) -> Option<(&[u8], usize)> {
    let text = received.strip_prefix(b"$")?;
    let (mut length, mut digits) = (0, 0);
    while let Some(digit) = text.get(digits).filter(|byte| byte.is_ascii_digit()) {
        length = length * 10 + usize::from(digit - b'0');
        digits += 1;
        if digits > MOST_DIGITS {
            return None;
        }
    }
    if digits == 0 || length as u64 > longest {
        return None;
    }
    let behind = text.get(digits..)?.strip_prefix(b"\r\n")?;
    let string = behind.get(..length + 2)?.strip_suffix(b"\r\n")?;
    Some((string, 1 + digits + 2 + length + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_has_arrived_whole_is_found() {
        let long = [b"$12345\r\n", vec![b'x'; 12_345].as_slice(), b"\r\n"].concat();
        for (reply, expected) in [
            (&b"$3\r\na\r\n\r\n"[..], &b"a\r\n"[..]),
            (b"$0\r\n\r\n", b""),
            (b"$5\r\n$1\r\n:\r\n", b"$1\r\n:"),
            (&long, &vec![b'x'; 12_345]),
        ] {
            let behind = [reply, b"$1\r\nx\r\n"].concat();
            assert_eq!(string(&behind, 12_345), Some((expected, reply.len())));
            for end in 0..reply.len() {
                assert_eq!(string(&reply[..end], 12_345), None, "{end}");
            }
        }
    }

    #[test]
    fn any_other_reply_is_left_as_it_is() {
        for reply in [
            &b"+OK\r\n"[..],
            b"$-1\r\n",
            b"$\r\n\r\n",
            b"$1\r\nab\r\n",
            b"$1\nx\r\n",
            b"$1x\r\na\r\n",
            b"$+1\r\na\r\n",
            b"$4\r\nlong\r\n",
            b"$999999999\r\n\r\n",
            b"$99999999999999999999999\r\n\r\n",
            b"*1\r\n$1\r\nx\r\n",
            b":1\r\n",
            b"-ERR x\r\n",
        ] {
            assert_eq!(string(reply, 3), None, "{:?}", String::from_utf8_lossy(reply));
        }
    }
}
