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
pub const V5_0_0: i32 = 413;
pub const V5_3_1: i32 = 475;
pub const V5_5_0: i32 = 513;

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
