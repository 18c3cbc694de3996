//! Which peer is asked for events.

use super::*;

fn refused() -> Error {
    Error::Refused {
        endorser: "p:1".into(),
        status: 403,
        message: "permission denied".into(),
    }
}

#[tokio::test]
async fn each_channel_turns_to_the_next_peer_and_refuses_when_all_do() {
    let source = GatewaySource::new(vec![Endpoint::plain("p0:1"), Endpoint::plain("p1:1")], |_| None);
    let at = |channel: &str| source.in_use.lock().get(channel).map_or(0, |used| used.peer);
    let first = source.failed("trade", 0, &refused());
    assert!(!first.refused, "the other one may be in the channel");
    assert!(
        !source.failed("trade", 0, &refused()).refused,
        "the same one again"
    );
    assert_eq!((at("trade"), at("other")), (1, 0));
    assert!(source.failed("trade", 1, &refused()).refused);
    source.works("trade");
    assert!(
        !source.failed("trade", 0, &refused()).refused,
        "one said yes since"
    );
    let away = Error::StreamEnded { from: "p1:1".into() };
    assert!(!source.failed("trade", 1, &away).refused);
    assert_eq!(at("trade"), 0);
}
