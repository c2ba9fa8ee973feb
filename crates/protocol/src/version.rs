//! Version ordinals and languages of peers (spec: protocol.md §1.4, §1.5).

/// What this implementation says in every header: RocketMQ 5.5.0, the newest protocol it speaks.
pub const CURRENT_VERSION: i32 = V5_5_0;
pub const CURRENT_VERSION_NAME: &str = "V5_5_0";

pub const V3_0_7_SNAPSHOT: i32 = 28;
pub const V3_0_11: i32 = 37;
pub const V3_1_8_SNAPSHOT: i32 = 62;
pub const V3_4_9: i32 = 121;
pub const V4_1_0_SNAPSHOT: i32 = 232;
pub const V4_9_4: i32 = 401;
pub const V5_0_0_SNAPSHOT: i32 = 412;
pub const V5_0_0: i32 = 413;
pub const V5_3_1: i32 = 475;
pub const V5_5_0: i32 = 513;

/// The name of a version, as RocketMQ shows it. Since 4.1.0 ordinals count snapshots and releases, ten releases to a
/// minor version; what is older is not told apart.
pub fn name(ordinal: i32) -> String {
    let (major, since) = match ordinal {
        V5_0_0_SNAPSHOT.. => (5, ordinal - V5_0_0_SNAPSHOT),
        V4_1_0_SNAPSHOT.. => (4, ordinal - V4_1_0_SNAPSHOT + 20),
        _ => return "BEFORE_V4_1_0".to_owned(),
    };
    let release = since / 2;
    let snapshot = if since % 2 == 0 { "_SNAPSHOT" } else { "" };
    match release {
        ..100 => format!("V{major}_{}_{}{snapshot}", release / 10, release % 10),
        _ => "HIGHER_VERSION".to_owned(),
    }
}

/// Languages by their code in the binary header.
const LANGUAGES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
    "NODE_JS",
];

/// The language a peer says it is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Language(pub u8);

impl Language {
    pub const JAVA: Language = Language(0);
    pub const CPP: Language = Language(1);
    pub const OTHER: Language = Language(7);
    pub const GO: Language = Language(9);
    pub const RUST: Language = Language(12);

    pub fn name(self) -> &'static str {
        LANGUAGES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// The language of a known code.
    pub fn from_code(code: i64) -> Language {
        match usize::try_from(code) {
            Ok(known) if known < LANGUAGES.len() => Language(known as u8),
            _ => Language::OTHER,
        }
    }

    pub fn from_name(name: &str) -> Language {
        LANGUAGES
            .iter()
            .position(|known| *known == name)
            .map_or(Language::OTHER, |code| Language(code as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_names() {
        for (ordinal, expected) in [
            (V4_1_0_SNAPSHOT, "V4_1_0_SNAPSHOT"),
            (V4_9_4, "V4_9_4"),
            (411, "V4_9_9"),
            (V5_0_0, "V5_0_0"),
            (414, "V5_0_1_SNAPSHOT"),
            (V5_3_1, "V5_3_1"),
            (V5_5_0, "V5_5_0"),
            (V3_4_9, "BEFORE_V4_1_0"),
            (10_000, "HIGHER_VERSION"),
        ] {
            assert_eq!(name(ordinal), expected);
        }
    }
}
