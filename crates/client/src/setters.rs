//! Methods of builders that only store what they are given.

/// `name(argument: Type): field = value;` is a method of a builder that sets the field.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),+): $($($field:ident).+ = $value:expr),+;)+) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $($arg: $type),+) -> Self {
            $(self.$($field).+ = $value;)+
            self
        }
    )+};
}
