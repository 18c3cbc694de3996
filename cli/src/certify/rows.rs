//! Rows of a CSV file as records.

use std::collections::BTreeMap;
use std::path::Path;

use super::digest;
use crate::args::ColumnsArgs;
use crate::error::CliError;

/// A row and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) part: String,
    pub(super) record: String,
    pub(super) hash: String,
}

/// Reads every row; errors name the line.
pub(super) fn read(path: &Path, columns: &ColumnsArgs) -> Result<Vec<Row>, CliError> {
    let bad = |why: String| CliError::BadConfig {
        path: path.to_owned(),
        why,
    };
    let mut file = csv::Reader::from_path(path).map_err(|e| bad(e.to_string()))?;
    let headers: Vec<String> = file
        .headers()
        .map_err(|e| bad(e.to_string()))?
        .iter()
        .map(|name| name.trim().to_owned())
        .collect();
    let place = |column: &str| {
        headers.iter().position(|name| name == column).ok_or_else(|| {
            bad(format!(
                "there is no column {column}; its first line names {}",
                headers.join(", ")
            ))
        })
    };
    let part = place(&columns.part_column)?;
    let record = place(&columns.record_column)?;
    let hash = columns.hash_column.as_deref().map(place).transpose()?;
    let mut rows = Vec::new();
    for (number, row) in file.records().enumerate() {
        let row = row.map_err(|e| bad(e.to_string()))?;
        let cell = |at: usize| row.get(at).unwrap_or_default().trim().to_owned();
        let line = row.position().map_or(number as u64 + 2, csv::Position::line);
        let named = |at: usize, column: &str| {
            Some(cell(at))
                .filter(|text| !text.is_empty())
                .ok_or_else(|| bad(format!("line {line} has nothing in column {column}")))
        };
        rows.push(Row {
            part: named(part, &columns.part_column)?,
            record: named(record, &columns.record_column)?,
            hash: match hash {
                Some(at) => cell(at).to_ascii_lowercase(),
                None => of_row(&headers, &row),
            },
        });
    }
    if rows.is_empty() {
        return Err(bad("it has no rows".to_owned()));
    }
    Ok(rows)
}

/// SHA-256 of the row as a JSON object: names sorted, cells as strings exactly as they stand, no blanks. So neither the
/// order of the columns nor quoting changes it.
fn of_row(headers: &[String], row: &csv::StringRecord) -> String {
    let cells: BTreeMap<&str, &str> = headers.iter().map(String::as_str).zip(row.iter()).collect();
    // A map of strings always has a JSON form.
    digest::of_text(&serde_json::to_string(&cells).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(hash: Option<&str>) -> ColumnsArgs {
        ColumnsArgs {
            part_column: "part".to_owned(),
            record_column: "record".to_owned(),
            hash_column: hash.map(str::to_owned),
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn the_order_of_columns_does_not_matter() {
        let (_keep, one) = file("part,record,torque\n4711,r1,\"12.5\"\n");
        let (_keep2, other) = file("torque,part,record\n12.5,4711,r1\n");
        let rows = read(&one, &columns(None)).unwrap();
        assert_eq!(rows, read(&other, &columns(None)).unwrap());
        assert_eq!(
            rows[0].hash,
            digest::of_text(r#"{"part":"4711","record":"r1","torque":"12.5"}"#)
        );
    }

    #[test]
    fn errors_name_column_and_line() {
        let (_keep, path) = file("part,hash\n4711,AB\n");
        let error = read(&path, &columns(None)).unwrap_err().to_string();
        assert!(
            error.contains("no column record") && error.contains("part, hash"),
            "{error}"
        );
        let (_keep, path) = file("part,record,hash\n4711,r1,AB\n4711,,AB\n");
        let error = read(&path, &columns(Some("hash"))).unwrap_err().to_string();
        assert!(error.contains("line 3 has nothing in column record"), "{error}");
        let (_keep, path) = file("part,record\n");
        assert!(read(&path, &columns(None)).is_err());
    }
}
