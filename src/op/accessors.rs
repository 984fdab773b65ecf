//! Owns the macro that writes the accessors of [`Reply`](crate::op::Reply) and [`Answer`](crate::op::Answer).

/// Writes one accessor per line: `name() -> Type = Variant;` returns the contents of the variant. For any other variant
/// it returns the error that `unexpected` makes: the backend sent a reply that does not belong to the request.
macro_rules! accessors {
    ($type:ident: $($name:ident() -> $held:ty = $variant:ident;)*) => {
        impl $type {
            $(pub(crate) fn $name(self) -> crate::error::Result<$held> {
                match self {
                    Self::$variant(held) => Ok(held),
                    other => Err(other.unexpected()),
                }
            })*

            fn unexpected(self) -> crate::error::Error {
                let command = concat!("reading a ", stringify!($type)).to_owned();
                crate::error::Error::Server { command, source: format!("unexpected {self:?}").into() }
            }
        }
    };
}
pub(crate) use accessors;
