//! Permission bits of a topic and of a broker (spec: behaviour.md §2.1).

pub const PRIORITY: i32 = 8;
pub const READ: i32 = 4;
pub const WRITE: i32 = 2;
/// Topics may be created from this one by a send that names it as the default topic.
pub const INHERIT: i32 = 1;

pub fn is_readable(perm: i32) -> bool {
    perm & READ != 0
}

pub fn is_writeable(perm: i32) -> bool {
    perm & WRITE != 0
}

pub fn is_inherited(perm: i32) -> bool {
    perm & INHERIT != 0
}

/// The form that operators see: `RWX`, with `-` for a clear bit.
pub fn text(perm: i32) -> String {
    [(READ, 'R'), (WRITE, 'W'), (INHERIT, 'X')]
        .map(|(bit, letter)| if perm & bit != 0 { letter } else { '-' })
        .iter()
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_shows_clear_bits_as_dashes() {
        assert_eq!(
            [0, 4, 6, 7].map(super::text),
            ["---", "R--", "RW-", "RWX"].map(String::from)
        );
    }
}
