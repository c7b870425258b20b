//! Numbers of a length of their own, as Kafka's record batches have them.

/// Appends a number, zigzag.
pub(crate) fn put(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a number at `at`, which moves behind it; nothing if there is none.
#[inline]
pub(crate) fn get(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    let mut all = u64::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let byte = *bytes.get(*at)?;
            *at += 1;
            all |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }
    Some((all >> 1).cast_signed() ^ -(all & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_and_what_is_cut_is_nothing() {
        for number in [0, -1, 1, 63, 64, -64, -65, 300, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put(number, &mut bytes);
            let mut at = 0;
            assert_eq!((get(&bytes, &mut at), at), (Some(number), bytes.len()));
            assert_eq!(get(&bytes[..bytes.len() - 1], &mut 0), None);
        }
        assert_eq!((get(&[0xff; 12], &mut 0), get(&[2], &mut 0)), (None, Some(1)));
    }
}
