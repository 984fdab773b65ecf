//! Owns how a section of the configuration is declared: one table with one row for each option. Knows none of
//! the options.

/// Declares a section of the configuration from a table of its options:
///
/// ```text
/// options! {
///     /// Docs of the section.
///     pub struct Name in "section", at "scheme:address" {
///         /// Docs of the option, its default and limits included.
///         #[serde(with = "…")]                          // if the type needs it
///         name(parameter): Type = default, in range, example value => "text"; // or `check method`, or neither
///         name(parameter: ParameterType): Type = default, example value => "text";
///     }
/// }
/// ```
///
/// Each row yields
/// - the public field `name`, with its docs and its serde attribute;
/// - its value in `Default`;
/// - the setter `name`, with the same docs and an example: that it sets what a URL with the `text` sets. It takes
///   `parameter` as the type of the field, or as a `ParameterType` that turns into it;
/// - its line in `validate`, which checks the options in the order of the rows: `in range` against a
///   `RangeInclusive`, `check method` by calling `self.method(field)`, which returns a `Result<()>` whose error
///   names `field` (`section.name`).
macro_rules! options {
    (
        $(#[$section_attribute:meta])*
        pub struct $Section:ident in $section:literal, at $address:literal {$(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)+)])?
            $name:ident($parameter:ident $(: $parameter_type:ty)?): $type:ty = $default:expr
            $(, in $range:expr)?
            $(, check $check:ident)?
            , example $example:expr => $text:literal;
        )+}
    ) => {
        $(#[$section_attribute])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $Section {$(
            $(#[doc = $doc])+
            $(#[serde($($serde)+)])?
            pub $name: $type,
        )+}

        impl Default for $Section {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $Section {
            $(
                #[doc = concat!("Sets `", stringify!($name), "`.\n\n")]
                $(#[doc = $doc])+
                #[doc = concat!(
                    "\n```\n# use millpond::*;\n# use std::{path::PathBuf, time::Duration};\n",
                    "let options = ", stringify!($Section), "::default().", stringify!($name), "(",
                    stringify!($example), ");\n",
                    "let config = StateConfig::from_url(\"", $address, "?", stringify!($name), "=", $text, "\")?;\n",
                    "assert_eq!(config.", $section, ", options);\n",
                    "# Ok::<(), millpond::Error>(())\n```",
                )]
                #[must_use]
                pub fn $name(
                    mut self,
                    $parameter: $crate::config::options::parameter_type!($type $(, $parameter_type)?),
                ) -> Self {
                    self.$name = $parameter.into();
                    self
                }
            )+

            /// Checks every option against its limits; the error names the first wrong one.
            pub(crate) fn validate(&self) -> $crate::error::Result<()> {
                $(
                    $($crate::config::range::in_range(
                        concat!($section, ".", stringify!($name)),
                        self.$name,
                        $range,
                    )?;)?
                    $(self.$check(concat!($section, ".", stringify!($name)))?;)?
                )+
                Ok(())
            }

            /// The name and the docs of every option, in the order of the rows.
            #[cfg(test)]
            pub(crate) const DOCS: &'static [(&'static str, &'static [&'static str])] =
                &[$((stringify!($name), &[$($doc),+]),)+];
        }
    };
}

/// The type of a setter's parameter: that of the field, or the one that the row gives.
macro_rules! parameter_type {
    ($type:ty) => {
        $type
    };
    ($type:ty, $parameter_type:ty) => {
        $parameter_type
    };
}

pub(crate) use {options, parameter_type};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::config::{FileOptions, MemoryOptions, RedisOptions, StateConfig};

    /// The sections, each with its defaults as serde spells them.
    fn defaults() -> Value {
        serde_json::to_value(StateConfig::default()).unwrap()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the configuration may hold any JSON value")]
    fn spell(default: &Value) -> String {
        match default {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// `16 777 216` becomes `16777216`.
    fn without_digit_groups(text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let separates = |at: usize| {
            chars[at] == ' '
                && at.checked_sub(1).is_some_and(|before| chars[before].is_ascii_digit())
                && chars.get(at + 1).is_some_and(char::is_ascii_digit)
        };
        (0..chars.len()).filter(|at| !separates(*at)).map(|at| chars[at]).collect()
    }

    #[test]
    fn every_option_documents_its_true_default() {
        for (section, docs) in
            [("memory", MemoryOptions::DOCS), ("file", FileOptions::DOCS), ("redis", RedisOptions::DOCS)]
        {
            let defaults = defaults();
            let options = defaults[section].as_object().unwrap();
            assert_eq!(options.len(), docs.len());
            for (name, lines) in docs {
                let text = without_digit_groups(&lines.concat().replace(['`', '"'], ""));
                let default = spell(&options[*name]);
                let stated = text.split_once("Defaults to ").unwrap_or_else(|| panic!("{name}: {text}")).1;
                let end = stated.strip_prefix(&*default).unwrap_or_else(|| panic!("{name}: {stated}"));
                assert!(end.starts_with([';', '.', ',', ':', ' ']), "{name}: {stated}");
            }
        }
    }

    /// `backend` is left out: its row spells the variants, and its key prefix is a row for itself.
    #[test]
    fn the_guide_lists_every_option_with_its_default() {
        let guide = include_str!("../../docs/guide/configuration.md");
        let rows: Vec<Vec<&str>> = guide
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let check = |name: &str, place: &str, default: &Value| {
            let name = format!("`{name}`");
            let row = rows.iter().find(|row| row[1] == name && row[2].replace('`', "") == place);
            let row = row.unwrap_or_else(|| panic!("the guide has no row for {name} in {place}"));
            assert_eq!(row[3].replace('`', ""), spell(default), "the guide: {name} in {place}");
        };
        let mut checked = 0;
        for (name, value) in defaults().as_object().unwrap() {
            match value.as_object() {
                Some(options) => options.iter().for_each(|(option, default)| check(option, name, default)),
                None if name == "backend" => {}
                None => check(name, "top level", value),
            }
            checked += value.as_object().map_or(1, serde_json::Map::len);
        }
        let sections = [MemoryOptions::DOCS, FileOptions::DOCS, RedisOptions::DOCS];
        assert_eq!(checked, sections.iter().map(|docs| docs.len()).sum::<usize>() + 5);
    }
}
