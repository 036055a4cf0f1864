//! Which column of a table is what.

use std::fmt;

use csv::StringRecord;
use serde::de::{self, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Format, Response};
use crate::error::count;

/// What may stand between two fields, in the order of what is tried.
const DELIMITERS: [char; 6] = [',', ';', '\t', '|', ':', ' '];

/// A column of a table, by its name in the header or its number from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Column {
    /// Its number from 1, left to right.
    Number(usize),
    /// Its name in the header.
    Name(String),
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Column;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a column, or its number from 1")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Column, E> {
                let number = usize::try_from(number).ok().filter(|&number| number > 0);
                number.map(Column::Number).ok_or_else(|| E::custom("columns are counted from 1"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Column, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(0))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Column, E> {
                Ok(Column::Name(name.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// One column or several, in order: `"price"`, or `["price", "rent"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    /// One.
    One(Column),
    /// One at least.
    Several(Vec<Column>),
}

impl Columns {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Column] {
        match self {
            Self::One(column) => std::slice::from_ref(column),
            Self::Several(columns) => columns,
        }
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a column, its number from 1, or a list of these")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Columns, E> {
                Column::deserialize(number.into_deserializer()).map(Columns::One)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Columns, E> {
                Column::deserialize(number.into_deserializer()).map(Columns::One)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Columns, E> {
                Ok(Columns::One(Column::Name(name.into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = list.next_element()? {
                    columns.push(column);
                }
                match columns.is_empty() {
                    true => Err(de::Error::custom("an empty list; name one column at least")),
                    false => Ok(Columns::Several(columns)),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What the columns of a table are.
pub(super) struct Layout {
    /// The header, or nothing.
    pub names: Vec<String>,
    /// Fields of every line.
    pub width: usize,
    /// The column of the class, or those of the responses in their order.
    pub labels: Vec<usize>,
    /// Columns that are left out, that of the user among them.
    pub ignored: Vec<bool>,
    /// The column of the user, where there is one.
    pub user: Option<usize>,
}

impl Layout {
    /// What the first line says under this format, and what about it is in doubt.
    pub fn of(first: &StringRecord, format: &Format) -> Result<(Self, Option<String>), String> {
        let width = first.len();
        if width < 2 {
            return Err(too_narrow(first, format.delimiter));
        }
        let (headed, doubt) = is_headed(first, format)?;
        let names: Vec<String> = if headed { first.iter().map(str::to_owned).collect() } else { Vec::new() };
        let label = |column| find("label", column, width, &names);
        let labels: Vec<usize> = match format.labels {
            [] => vec![width - 1],
            columns => columns.iter().map(label).collect::<Result<_, _>>()?,
        };
        if let Some((place, twice)) = labels.iter().enumerate().find(|(i, own)| labels[..*i].contains(own)) {
            return Err(format!("data.label names column {} twice; take entry {} out", twice + 1, place + 1));
        }
        let learnt = match format.response {
            Response::Class => "that of the class",
            Response::Quantity | Response::Labels => "to be learnt",
        };
        let mut ignored = vec![false; width];
        for column in format.ignore {
            let column = find("ignore", column, width, &names)?;
            if labels.contains(&column) {
                return Err(format!("data.ignore names column {}, which is {learnt}", column + 1));
            }
            ignored[column] = true;
        }
        let user = format.user.map(|column| find("user", column, width, &names)).transpose()?;
        if let Some(column) = user {
            if labels.contains(&column) || ignored[column] {
                let other = if ignored[column] { "that of data.ignore" } else { learnt };
                return Err(format!("data.user names column {}, which is {other}", column + 1));
            }
            ignored[column] = true;
        }
        let layout = Self { names, width, labels, ignored, user };
        match layout.features() {
            0 => Err("no feature is left; take a column out of data.ignore".into()),
            _ => Ok((layout, doubt)),
        }
    }

    fn is_feature(&self, column: usize) -> bool {
        !self.labels.contains(&column) && !self.ignored[column]
    }

    /// Number of columns with features.
    pub fn features(&self) -> usize {
        (0..self.width).filter(|&column| self.is_feature(column)).count()
    }

    /// The column of the feature number `feature`, both counted from 0.
    pub fn of_feature(&self, feature: usize) -> usize {
        (0..self.width).filter(|&column| self.is_feature(column)).nth(feature).unwrap_or_default()
    }

    /// Where the features stand in a table of so many columns, with or without what is to be learnt.
    pub fn places(&self, width: usize) -> Result<Vec<usize>, String> {
        let features = (0..self.width).filter(|&column| self.is_feature(column));
        let before = |column: usize| self.labels.iter().filter(|label| **label < column).count();
        if width == self.width {
            return Ok(features.collect());
        }
        if width + self.labels.len() == self.width {
            return Ok(features.map(|column| column - before(column)).collect());
        }
        let (found, rest) = (count(width, "column"), self.width - self.labels.len());
        let learnt = match self.labels.len() {
            1 => "that of the class, or with it",
            _ => "those that are learnt, or with them",
        };
        Err(format!("{found}; give the {rest} of the training table without {learnt}"))
    }

    /// Whether a header names the features as this one, whose places are these.
    pub fn check_names(&self, header: &StringRecord, places: &[usize]) -> Result<(), String> {
        for (feature, &place) in places.iter().enumerate() {
            let (own, wanted) = (&header[place], &self.names[self.of_feature(feature)]);
            if own != wanted {
                return Err(format!("a column `{own}` where the training table has `{wanted}`"));
            }
        }
        Ok(())
    }

    /// A column in words.
    pub fn column(&self, column: usize) -> String {
        match self.names.get(column) {
            Some(name) => format!("column {} (`{name}`)", column + 1),
            None => format!("column {}", column + 1),
        }
    }
}

/// Whether the first line names the columns, and what speaks against it. Unless the format says so: it does
/// where a column is asked for by name, or where no field beside the class is a number; it is an example
/// where all are.
fn is_headed(first: &StringRecord, format: &Format) -> Result<(bool, Option<String>), String> {
    let named = |column: &Column| matches!(column, Column::Name(_));
    let number = |column: &Column| match column {
        Column::Number(number) => number.checked_sub(1),
        Column::Name(name) => first.iter().position(|field| field == name),
    };
    let mut rest: Vec<usize> = format.ignore.iter().chain(format.user).filter_map(number).collect();
    match format.labels {
        [] => rest.push(first.len() - 1),
        labels => rest.extend(labels.iter().map(|label| number(label).unwrap_or(first.len() - 1))),
    }
    let features = || first.iter().enumerate().filter(|(column, _)| !rest.contains(column));
    let numbers: Vec<f64> = features().filter_map(|(_, field)| field.parse().ok()).collect();
    let missing = features().filter(|(_, field)| field.parse::<f64>().is_err() && format.is_missing(field));
    let words = features().count() - numbers.len() - missing.count();
    // Tables without names are often numbered: 0, 1, 2, …
    let counting = numbers.len() > 1 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1.0);
    let like_an_example = !numbers.is_empty() && words == 0 && !counting;
    match format.header {
        Some(true) if like_an_example => {
            let doubt = "line 1 looks like an example, but data.header = true takes it for the header";
            Ok((true, Some(doubt.into())))
        }
        Some(header) => Ok((header, None)),
        None if format.labels.iter().chain(format.user).chain(format.ignore).any(named) => Ok((true, None)),
        // Without features there is more to say than about the header.
        None if numbers.is_empty() && (words > 0 || features().next().is_none()) => Ok((true, None)),
        None if like_an_example => {
            let doubt = "line 1 is taken for an example, as it holds numbers; data.header = false says so";
            Ok((false, Some(doubt.into())))
        }
        None => Err("line 1 may name the columns or be an example; say which with data.header = true or \
                     data.header = false"
            .into()),
    }
}

/// The position of a column that the key `key` of the section names.
fn find(key: &str, column: &Column, width: usize, names: &[String]) -> Result<usize, String> {
    match column {
        Column::Number(number) if *number <= width => Ok(number - 1),
        Column::Number(number) => Err(format!("data.{key}: no column {number}; there are {width}")),
        Column::Name(name) if names.is_empty() => Err(format!(
            "no header to find the column `{name}` in; give data.{key} as a number from 1 to {width}"
        )),
        Column::Name(name) => {
            let of_name = |wanted: &&str| *wanted == name;
            let mut found = names.iter().map(String::as_str).enumerate().filter(|(_, own)| of_name(own));
            match (found.next(), found.next()) {
                (Some((column, _)), None) => Ok(column),
                (Some(_), Some(_)) => {
                    Err(format!("two columns are called `{name}`; give data.{key} as a number"))
                }
                (None, _) => {
                    Err(format!("data.{key}: no column `{name}`; the header has {}", names.join(", ")))
                }
            }
        }
    }
}

/// A line without two fields, with the delimiter that would split it.
fn too_narrow(first: &StringRecord, delimiter: u8) -> String {
    let fields = |other: char| first.iter().map(|field| field.matches(other).count() + 1).sum::<usize>();
    let others = DELIMITERS.into_iter().filter(|other| *other != char::from(delimiter));
    // The first of equals.
    let best = others.map(|other| (fields(other), other)).rev().max_by_key(|(fields, _)| *fields);
    let remedy = match best {
        Some((fields, other)) if fields > 1 => {
            let written = if other == '\t' { "tab".to_owned() } else { other.to_string() };
            format!("data.delimiter = \"{written}\" would make {fields} of it")
        }
        _ => "data.delimiter says what stands between two fields".into(),
    };
    let delimiter = char::from(delimiter);
    let found = count(first.len(), "column");
    format!("{found} between {delimiter:?}; a table needs a class and at least one feature; {remedy}")
}
