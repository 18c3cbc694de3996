//! Channel participation of an orderer, as `osnadmin` does it (spec 05 §7).

use bytes::Bytes;
use rand::TryRngCore;
use selvedge_comm::{ClientTls, HttpClient, Method};
use serde::Deserialize;

use crate::error::Error;

/// How an orderer takes part in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelStatus {
    /// The channel.
    pub name: String,
    /// `consenter`, `follower`, `config-tracker` or `other`.
    #[serde(rename = "consensusRelation")]
    pub consensus_relation: String,
    /// `active`, `onboarding`, `inactive` or `failed`.
    pub status: String,
    /// Number of blocks it has.
    pub height: u64,
}

#[derive(Deserialize)]
struct ChannelList {
    channels: Option<Vec<ListedChannel>>,
}

#[derive(Deserialize)]
struct ListedChannel {
    name: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// A client of an orderer's admin listener.
#[derive(Debug, Clone)]
pub struct OrdererAdmin {
    base: String,
    http: HttpClient,
}

impl OrdererAdmin {
    /// A client of the admin listener at `url`, e.g. `https://orderer0.example.com:7053`. Over https the listener
    /// demands a client certificate.
    pub fn new(url: &str, tls: ClientTls) -> Self {
        Self {
            base: format!("{}/participation/v1/channels", url.trim_end_matches('/')),
            http: HttpClient::new(tls),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let url = format!("{}{path}", self.base);
        let answer = self.http.request(method, &url, headers, body).await?;
        let status = answer.status.as_u16();
        if (200..300).contains(&status) {
            return Ok(answer.body);
        }
        let message = serde_json::from_slice::<Refusal>(&answer.body).map_or_else(
            |_| String::from_utf8_lossy(&answer.body).trim().to_owned(),
            |r| r.error,
        );
        Err(Error::Rest { url, status, message })
    }

    fn read<'a, T: Deserialize<'a>>(&self, body: &'a Bytes) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|e| Error::malformed(&self.base, e))
    }

    /// Lets the orderer join the channel that starts with `block`, a serialised configuration block.
    ///
    /// # Errors
    /// The orderer refuses; its words say why.
    pub async fn join(&self, block: &[u8]) -> Result<ChannelStatus, Error> {
        let (content_type, body) = config_block_form(block)?;
        let headers = [("content-type", content_type.as_str())];
        let answer = self.call(Method::POST, "", &headers, body).await?;
        self.read(&answer)
    }

    /// Channels that the orderer takes part in.
    ///
    /// # Errors
    /// The orderer refuses or cannot be reached.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let answer = self.call(Method::GET, "", &[], Bytes::new()).await?;
        let list: ChannelList = self.read(&answer)?;
        Ok(list
            .channels
            .unwrap_or_default()
            .into_iter()
            .map(|c| c.name)
            .collect())
    }

    /// How the orderer takes part in a channel.
    ///
    /// # Errors
    /// It does not, or cannot be reached.
    pub async fn status(&self, channel: &str) -> Result<ChannelStatus, Error> {
        let answer = self
            .call(Method::GET, &format!("/{channel}"), &[], Bytes::new())
            .await?;
        self.read(&answer)
    }

    /// Lets the orderer leave a channel and delete its blocks.
    ///
    /// # Errors
    /// It does not take part, or cannot be reached.
    pub async fn remove(&self, channel: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &format!("/{channel}"), &[], Bytes::new())
            .await
            .map(drop)
    }
}

/// A multipart body with one part `config-block`, and its content type.
fn config_block_form(block: &[u8]) -> Result<(String, Bytes), Error> {
    // A boundary must not occur in the block: 128 random bits do not.
    let mut random = [0; 16];
    rand::rngs::OsRng
        .try_fill_bytes(&mut random)
        .map_err(|e| Error::Request(format!("the system gives no random numbers: {e}")))?;
    let boundary = hex::encode(random);
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"config-block\"; filename=\"config.block\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = [head.as_bytes(), block, tail.as_bytes()].concat();
    Ok((format!("multipart/form-data; boundary={boundary}"), body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_one_part_with_the_block_as_it_is() {
        let block = [0u8, 13, 10, 45, 45, 255];
        let (content_type, body) = config_block_form(&block).unwrap();
        let boundary = content_type.split_once("boundary=").unwrap().1;
        let text = body.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&body[..text]).unwrap();
        assert!(head.starts_with(&format!("--{boundary}\r\n")));
        assert!(head.contains("name=\"config-block\""));
        let end = body.len() - format!("\r\n--{boundary}--\r\n").len();
        assert_eq!(&body[text + 4..end], block);
    }

    #[test]
    fn an_empty_list_is_null_in_fabric() {
        let list: ChannelList = serde_json::from_str(r#"{"systemChannel":null,"channels":null}"#).unwrap();
        assert!(list.channels.unwrap_or_default().is_empty());
        let status: ChannelStatus = serde_json::from_str(
            r#"{"name":"c","url":"/participation/v1/channels/c","consensusRelation":"consenter","status":"active","height":1}"#,
        )
        .unwrap();
        assert_eq!((status.height, status.status.as_str()), (1, "active"));
    }
}
