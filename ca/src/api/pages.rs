//! Long lists, sent as they are read: an authority may have any number of identities, but its memory has an end.

use axum::body::{Body, Bytes};
use futures::stream;
use serde_json::{Value, json};

use crate::error::Refusal;

type Next = Box<dyn FnMut() -> Result<Option<Vec<Value>>, Refusal> + Send>;

/// A list under a name, in pages.
pub(super) struct Pages {
    name: &'static str,
    authority: String,
    next: Next,
}

enum Stage {
    Begin,
    Items { any: bool },
    Done,
}

impl Pages {
    /// `next` gives page after page and none at the end; it may block.
    pub(super) fn new(
        name: &'static str,
        authority: String,
        next: impl FnMut() -> Result<Option<Vec<Value>>, Refusal> + Send + 'static,
    ) -> Self {
        Self {
            name,
            authority,
            next: Box::new(next),
        }
    }

    /// What comes after the last item: whether all went well is known only then.
    fn end(&self, refusal: Option<&Refusal>) -> String {
        let errors = match refusal {
            None => json!([]),
            Some(refusal) => {
                tracing::warn!(list = self.name, authority = %self.authority, %refusal, "list cut short");
                json!([{ "code": refusal.code, "message": refusal.message }])
            }
        };
        format!(
            "],\"caname\":{}}},\"errors\":{errors},\"messages\":[],\"success\":{}}}",
            Value::from(self.authority.as_str()),
            refusal.is_none()
        )
    }

    fn page(&mut self, any: bool) -> (String, Stage) {
        match (self.next)() {
            Ok(Some(items)) => {
                let mut text = String::new();
                let mut separate = any;
                for item in items {
                    if separate {
                        text.push(',');
                    }
                    separate = true;
                    text.push_str(&item.to_string());
                }
                (text, Stage::Items { any: separate })
            }
            Ok(None) => (self.end(None), Stage::Done),
            Err(refusal) => (self.end(Some(&refusal)), Stage::Done),
        }
    }

    /// The body: a page is read when the caller has taken the one before.
    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(
            (self, Stage::Begin),
            |(mut pages, stage)| async move {
                let (text, stage) = match stage {
                    Stage::Begin => (
                        format!("{{\"result\":{{\"{}\":[", pages.name),
                        Stage::Items { any: false },
                    ),
                    Stage::Items { any } => {
                        let read = tokio::task::spawn_blocking(move || {
                            let (text, stage) = pages.page(any);
                            (pages, text, stage)
                        });
                        let (back, text, stage) = read.await.map_err(std::io::Error::other)?;
                        pages = back;
                        (text, stage)
                    }
                    Stage::Done => return Ok(None),
                };
                Ok::<_, std::io::Error>(Some((Bytes::from(text), (pages, stage))))
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut answers: Vec<Result<Option<Vec<Value>>, Refusal>>) -> Value {
        answers.reverse();
        let pages = Pages::new("things", "a \"b\"".into(), move || {
            answers.pop().unwrap_or(Ok(None))
        });
        let bytes = axum::body::to_bytes(pages.into_body(), 4096).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn pages_make_one_list() {
        let answer = read(vec![
            Ok(Some(vec![json!(1), json!(2)])),
            Ok(Some(vec![])),
            Ok(Some(vec![json!(3)])),
        ])
        .await;
        assert_eq!(answer["result"]["things"], json!([1, 2, 3]));
        assert_eq!(answer["result"]["caname"], "a \"b\"");
        assert_eq!(answer["success"], true);
        assert_eq!(read(vec![]).await["result"]["things"], json!([]));
    }

    #[tokio::test]
    async fn a_failure_on_the_way_is_said() {
        let answer = read(vec![Ok(Some(vec![json!(1)])), Err(Refusal::internal(49, "disk"))]).await;
        assert_eq!(answer["success"], false);
        assert_eq!(answer["errors"][0]["code"], 49);
    }
}
