//! Tables in mqadmin's columns.

use serde_json::{Map, Value};

/// Rows under a line of names. Both are laid out as C's `printf` does with `%-20s`, `%20s` and `%s`; what stands between
/// is copied.
pub(crate) struct Table {
    names: Vec<String>,
    heading: &'static str,
    row: &'static str,
    rows: Vec<Vec<Cell>>,
}

/// A value and how it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    text: String,
    value: Value,
}

impl Table {
    /// Rows are laid out like the names, between which are commas.
    pub(crate) fn new(names: &str, layout: &'static str) -> Table {
        Table {
            names: names.split(", ").map(str::to_owned).collect(),
            heading: layout,
            row: layout,
            rows: Vec::new(),
        }
    }

    pub(crate) fn with_rows_as(self, row: &'static str) -> Table {
        Table { row, ..self }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    pub(crate) fn heading(&self) -> String {
        columns(self.heading, self.names.iter().map(|name| &**name))
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.rows
            .iter()
            .map(|row| columns(self.row, row.iter().map(|cell| &*cell.text)))
    }

    /// Each row as an object with the names in camel case.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Value> {
        self.rows.iter().map(|row| {
            let members = self.names.iter().zip(row);
            let members = members.map(|(name, cell)| (member_name(name), cell.value.clone()));
            Value::Object(members.collect::<Map<_, _>>())
        })
    }
}

/// `#Broker Name` → `brokerName`; what stands in brackets is left out.
fn member_name(name: &str) -> String {
    let name = name.split('(').next().unwrap_or_default();
    let mut words = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut result = words.next().unwrap_or_default().to_owned();
    match result.chars().all(|c| c.is_ascii_uppercase()) {
        true => result.make_ascii_lowercase(),
        false => result[..1].make_ascii_lowercase(),
    }
    result.extend(words);
    result
}

/// Lays texts out by a format.
pub(crate) fn columns<'a>(format: &str, texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut texts = texts.into_iter();
    let mut result = String::new();
    let mut rest = format;
    while let Some((before, specification)) = rest.split_once('%') {
        result.push_str(before);
        let Some((width, after)) = specification.split_once('s') else {
            break;
        };
        rest = after;
        let text = texts.next().unwrap_or_default();
        match (width.strip_prefix('-'), width) {
            (Some(width), _) => result.push_str(&format!("{text:<width$}", width = width.parse().unwrap_or(0))),
            (None, "") => result.push_str(text),
            (None, width) => result.push_str(&format!("{text:>width$}", width = width.parse().unwrap_or(0))),
        }
    }
    result + rest
}

/// The first characters of a name: columns are not to be pushed aside by long ones.
pub(crate) fn front(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// A number with so many digits after the point.
pub(crate) fn decimal(value: f64, digits: usize) -> Cell {
    Cell {
        text: format!("{value:.digits$}"),
        value: Value::from(value),
    }
}

impl Cell {
    /// Shown otherwise than it is.
    pub(crate) fn shown(text: impl Into<String>, value: impl Into<Value>) -> Cell {
        Cell {
            text: text.into(),
            value: value.into(),
        }
    }
}

macro_rules! cells {
    ($($from:ty),*) => {$(
        impl From<$from> for Cell {
            fn from(value: $from) -> Cell {
                Cell { text: value.to_string(), value: serde_json::json!(value) }
            }
        }
    )*};
}
cells!(&str, String, &String, i32, i64, usize, bool);

/// A row of a table.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::table::Cell::from($cell)),*] };
}
pub(crate) use row;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_printf() {
        assert_eq!(columns("%-6s  %4s|%s", ["ab", "cd", "ef"]), "ab        cd|ef");
        assert_eq!(columns("%-2s%s!", ["long", ""]), "long!");
    }

    #[test]
    fn rows_are_objects_too() {
        let mut table = Table::new("#Broker Name, #QID, #InTPS(LOAD), #SPACE", "%-12s%-5s%-9s%s");
        table.push(row!["b", 3, decimal(1.25, 1), Cell::shown("n/a", Value::Null)]);
        assert_eq!(table.heading(), "#Broker Name#QID #InTPS(LOAD)#SPACE");
        assert_eq!(table.lines().collect::<Vec<_>>(), ["b           3    1.2      n/a"]);
        let object = table.objects().next().unwrap().to_string();
        assert_eq!(object, r#"{"brokerName":"b","inTPS":1.25,"qid":3,"space":null}"#);
    }
}
