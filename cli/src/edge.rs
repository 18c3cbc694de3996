//! `selvedge edge …`: run the edge gateway, feed it, look at it.

use std::path::Path;
use std::time::Duration;

use selvedge_comm::HttpClient;
use selvedge_sdk::ClientTls;
use serde_json::{Map, Value, json};

use crate::args::{EdgeCommand, ReplayArgs};
use crate::error::{CliError, During};
use crate::roles;

/// Rows sent with one call.
const BATCH: usize = 100;
/// A gateway that does not take anything for this long is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Runs a `selvedge edge` command.
pub(crate) async fn run(command: EdgeCommand) -> Result<(), CliError> {
    match command {
        EdgeCommand::Gateway(command) => command
            .run(roles::stop_signal()?, selvedge_operations::process_log())
            .await
            .during(|| "edge gateway".to_owned()),
        EdgeCommand::Replay(args) => replay(&args).await,
    }
}

/// What a running edge gateway says of itself.
pub(crate) async fn fetch_status(edge: &str) -> Result<Value, CliError> {
    let client = HttpClient::new(ClientTls::default()).with_timeout(Duration::from_secs(5));
    let answer = client
        .request(http_get(), &format!("{edge}/v1/status"), &[], "")
        .await
        .during(|| format!("no edge gateway answers at {edge}"))?;
    serde_json::from_slice(&answer.body).during(|| format!("{edge} does not answer as an edge gateway"))
}

fn http_get() -> hyper::Method {
    hyper::Method::GET
}

/// A tracker's row as the shipment contract's reading. Empty cells are left out; unknown columns are sensor values.
fn reading(
    headers: &[String],
    row: &csv::StringRecord,
    shipment: &str,
    stream: &str,
    sequence: u64,
) -> Value {
    let mut position = Map::new();
    let mut values = Map::new();
    let mut time = Value::Null;
    for (name, cell) in headers.iter().zip(row.iter()) {
        let cell = cell.trim();
        if cell.is_empty() {
            continue;
        }
        match name.as_str() {
            "time_utc" | "time" => time = json!(cell),
            "lat" | "lon" | "accuracy" => drop(position.insert(name.clone(), json!(cell))),
            _ => drop(values.insert(name.clone(), json!(cell))),
        }
    }
    let mut reading = json!({
        "shipment": shipment, "stream": stream, "sequence": sequence, "time": time, "values": values,
    });
    if position.contains_key("lat") && position.contains_key("lon") {
        reading["position"] = Value::Object(position);
    }
    reading
}

/// The requests for all rows of a file. Each names itself by shipment, stream and row, so that sending the file again
/// changes nothing.
pub(crate) fn requests_of(path: &Path, args: &ReplayArgs) -> Result<Vec<Value>, CliError> {
    let bad = |why: String| CliError::BadConfig {
        path: path.to_owned(),
        why,
    };
    let mut file = csv::Reader::from_path(path).map_err(|e| bad(e.to_string()))?;
    let headers: Vec<String> = file
        .headers()
        .map_err(|e| bad(e.to_string()))?
        .iter()
        .map(str::to_owned)
        .collect();
    if !headers.iter().any(|h| h == "time_utc" || h == "time") {
        return Err(bad(
            "its first line names no column 'time_utc' or 'time'".to_owned()
        ));
    }
    let mut requests = Vec::new();
    for (row, sequence) in file.records().zip(1_u64..) {
        if args.limit.is_some_and(|limit| requests.len() >= limit) {
            break;
        }
        let row = row.map_err(|e| bad(e.to_string()))?;
        let reading = reading(&headers, &row, &args.shipment, &args.stream, sequence);
        requests.push(json!({
            "channel": args.channel,
            "chaincode": "shipment",
            "function": "recordReading",
            "args": [reading],
            "source": args.stream,
            "idempotencyKey": format!("{}/{}/{sequence}", args.shipment, args.stream),
        }));
    }
    Ok(requests)
}

async fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let requests = requests_of(&args.csv, args)?;
    let accepted = send_all(&args.edge, &requests).await?;
    println!(
        "{accepted} readings of {} are on the edge gateway's disk",
        args.csv.display()
    );
    Ok(())
}

/// Hands requests to an edge gateway until it has taken all of them, through restarts and back-pressure.
pub(crate) async fn send_all(edge: &str, requests: &[Value]) -> Result<usize, CliError> {
    let client = HttpClient::new(ClientTls::default());
    let url = format!("{edge}/v1/transactions");
    let mut taken = 0;
    for batch in requests.chunks(BATCH) {
        let body = Value::Array(batch.to_vec()).to_string();
        let waiting = std::time::Instant::now();
        loop {
            let why = match client.request(hyper::Method::POST, &url, &[], body.clone()).await {
                Ok(answer) if answer.status.as_u16() == 202 => break,
                Ok(answer) if answer.status.is_client_error() && answer.status.as_u16() != 429 => {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(CliError::said(format!("{edge} refuses the readings: {text}")));
                }
                Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
                Err(error) => error.to_string(),
            };
            if waiting.elapsed() > PATIENCE {
                return Err(CliError::said(format!("{edge} takes no readings: {why}")));
            }
            // The same keys again: what was taken before is not taken twice.
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        taken += batch.len();
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_readings() {
        let headers: Vec<String> = ["time_utc", "lat", "lon", "accuracy", "temperature", "humidity"]
            .map(str::to_owned)
            .to_vec();
        let row = csv::StringRecord::from(vec![
            "2016-01-21T09:26:40Z",
            "51.3",
            "12.4",
            "cellid",
            "-12.50",
            "",
        ]);
        let full = reading(&headers, &row, "s1", "tracker", 2);
        assert_eq!(
            full["position"],
            json!({ "lat": "51.3", "lon": "12.4", "accuracy": "cellid" })
        );
        assert_eq!(
            full["values"],
            json!({ "temperature": "-12.50" }),
            "digits stay as they are"
        );
        let row = csv::StringRecord::from(vec!["2016-01-21T09:25:51Z", "", "", "", "", "30"]);
        let bare = reading(&headers, &row, "s1", "tracker", 1);
        assert!(bare.get("position").is_none());
        assert_eq!(bare["sequence"], 1);
    }
}
