//! Owns how a handle is declared: its type, and one row for each method that calls the one of the store. Knows none of
//! the handles.

/// Declares a handle, perhaps with fields of its own that have defaults, with the `Clone` and `Debug` that all handles have: neither asks anything of the item.
macro_rules! handle {
    ($(#[$meta:meta])* $name:ident $(<$item:ident>)? $({ $($field:ident: $type:ty),* })?) => {
        $(#[$meta])*
        pub struct $name $(<$item>)? {
            store: StateStore,
            key: String,
            item: PhantomData<fn() -> ($($item,)?)>,
            $($($field: $type,)*)?
        }

        impl $(<$item>)? $name $(<$item>)? {
            pub(in crate::store::handle) fn new(store: &StateStore, key: &str) -> Self {
                Self {
                    store: store.clone(),
                    key: key.to_owned(),
                    item: PhantomData,
                    $($($field: Default::default(),)*)?
                }
            }
        }

        impl $(<$item>)? Clone for $name $(<$item>)? {
            fn clone(&self) -> Self {
                Self {
                    store: self.store.clone(),
                    key: self.key.clone(),
                    item: PhantomData,
                    $($($field: self.$field.clone(),)*)?
                }
            }
        }

        impl $(<$item>)? fmt::Debug for $name $(<$item>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("key", &self.key).finish_non_exhaustive()
            }
        }
    };
}

/// Declares the methods of a handle: name, arguments and result, and the method of the store that each calls with
/// the key of the handle. An argument with `=> T` is passed as a `&T`.
macro_rules! delegate {
    ($($(#[$meta:meta])* $name:ident($($arg:ident: $type:ty $(=> $item:ty)?),*) -> $output:ty = $method:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, $($arg: $type),*) -> Result<$output> {
            self.store.$method(&self.key, $(argument!($arg $($item)?)),*)
        }
    )*};
}

macro_rules! argument {
    ($arg:ident) => {
        $arg
    };
    ($arg:ident $item:ty) => {
        Borrow::<$item>::borrow(&$arg)
    };
}

pub(in crate::store::handle) use {argument, delegate, handle};
