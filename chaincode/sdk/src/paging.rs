//! Long lists, page by page: a page ends with a bookmark, and the next one starts there.

use crate::json::Object;
use crate::{Context, Error, Result, composite_key, split_composite_key};

/// Entries that one page looks at when a filter drops most of them; the bookmark leads on.
const MAX_SCAN: usize = 2000;
/// Longest bookmark that is read, in bytes.
const MAX_BOOKMARK: usize = 2048;

/// Where to start and how much to take.
#[derive(Debug, Clone)]
pub struct Paging {
    limit: usize,
    bookmark: Option<Vec<String>>,
}

/// A page and what leads to the next one.
#[derive(Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Hand it in again to read on; none on the last page.
    pub bookmark: Option<String>,
}

/// One entry of a list, as it is handed to the reader of [`Paging::collect`].
#[derive(Debug)]
pub struct Entry<'e> {
    /// The whole key.
    pub key: &'e str,
    /// The key's attributes behind those that the list was asked with.
    pub rest: &'e [&'e str],
    /// The value.
    pub value: &'e [u8],
}

/// A bookmark names attributes without control characters: joined by `/`, with `/` and `%` in them escaped.
fn to_bookmark(attributes: &[&str]) -> String {
    let escaped: Vec<String> = attributes
        .iter()
        .map(|text| text.replace('%', "%25").replace('/', "%2F"))
        .collect();
    escaped.join("/")
}

fn from_bookmark(text: &str) -> Vec<String> {
    text.split('/')
        .map(|part| part.replace("%2F", "/").replace("%25", "%"))
        .collect()
}

impl Paging {
    /// Reads the optional fields `limit` (1 to `max`) and `bookmark`.
    ///
    /// # Errors
    /// Status 400 when one of them is wrong.
    pub fn read(object: &mut Object<'_>, default: u64, max: u64) -> Result<Self> {
        let limit = match object.optional("limit") {
            Some(field) => {
                let limit = field.integer()?;
                if !(1..=max).contains(&limit) {
                    return Err(Error::bad_request(format!(
                        "{} must be 1 to {max}, not {limit}",
                        field.path()
                    )));
                }
                limit
            }
            None => default,
        };
        let bookmark = object
            .optional("bookmark")
            .map(|field| field.name(MAX_BOOKMARK))
            .transpose()?;
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(1),
            bookmark: bookmark.map(|text| from_bookmark(&text)),
        })
    }

    /// Walks over the composite keys that begin with these attributes, from the bookmark on. `take` makes an item of
    /// an entry, or passes it over.
    ///
    /// # Errors
    /// Status 400 when the bookmark belongs to another list, and whatever `take` and the peer refuse with.
    pub fn collect<T>(
        &self,
        ctx: &Context<'_>,
        object_type: &str,
        attributes: &[&str],
        mut take: impl FnMut(&Entry<'_>) -> Result<Option<T>>,
    ) -> Result<Page<T>> {
        let entries = match &self.bookmark {
            Some(rest) => {
                let all: Vec<&str> = attributes
                    .iter()
                    .copied()
                    .chain(rest.iter().map(String::as_str))
                    .collect();
                ctx.composite_range_from(object_type, attributes, &composite_key(object_type, &all)?)?
            }
            None => ctx.composite_range(object_type, attributes)?,
        };
        let mut page = Page {
            items: Vec::new(),
            bookmark: None,
        };
        for (count, entry) in entries.enumerate() {
            let (key, value) = entry?;
            let parts = split_composite_key(&key)
                .map(|(_, parts)| parts)
                .unwrap_or_default();
            let rest = parts
                .get(attributes.len()..)
                .ok_or_else(|| Error::internal("a list entry has a broken key"))?;
            if page.items.len() == self.limit || count == MAX_SCAN {
                page.bookmark = Some(to_bookmark(rest));
                break;
            }
            page.items.extend(take(&Entry {
                key: &key,
                rest,
                value: &value,
            })?);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bookmarks_keep_what_they_name(parts in proptest::collection::vec("[a-z/% ]{0,8}", 1..4)) {
            let borrowed: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert_eq!(from_bookmark(&to_bookmark(&borrowed)), parts);
        }
    }
}
