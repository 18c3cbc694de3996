//! Packets of both versions in one form. The encoding is `mqtt-proto`'s.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_proto::{Error as CodecError, Pid, QoS, QosPid, TopicName, VarBytes, v3, v5};

/// Longest packet taken, in bytes.
pub(crate) const MAX_PACKET: usize = 512 * 1024;
/// Publishes of a client that are not acknowledged yet, at most.
pub(crate) const RECEIVE_MAXIMUM: u16 = 64;

/// The version that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

/// What came is not MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// A message to be published when its client goes without saying good-bye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
}

/// The first packet of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) clean: bool,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    pub(crate) client_id: String,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Bytes>,
    /// Seconds that the session outlives the connection.
    pub(crate) session_expiry: u32,
    /// Messages to the client that it may leave unacknowledged.
    pub(crate) receive_maximum: u16,
    /// Longest packet that the client takes.
    pub(crate) max_packet: Option<u32>,
}

/// What clients send after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    Publish {
        qos: u8,
        id: u16,
        topic: String,
        payload: Bytes,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        id: u16,
        /// Filters with the QoS asked for.
        filters: Vec<(String, u8)>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        /// The will is to be published all the same.
        with_will: bool,
        /// A new value for it, if one was sent.
        session_expiry: Option<u32>,
    },
}

/// How a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Success,
    NotAuthorized,
    TopicInvalid,
    QuotaExceeded,
    PayloadInvalid,
    Failed,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotConnected {
    Version,
    ClientId,
    BadLogin,
    NotAuthorized,
    Busy,
}

/// Why a connection is ended, for clients of version 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    ProtocolError,
    Malformed,
    KeepAlive,
    TakenOver,
    ShuttingDown,
    PacketTooLarge,
    Quota,
}

/// What goes to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Connected {
        session_present: bool,
        /// The name given to a client that had none.
        assigned: Option<String>,
        session_expiry: u32,
    },
    NotConnected(NotConnected),
    Publish {
        qos: u8,
        id: u16,
        dup: bool,
        topic: String,
        payload: Bytes,
    },
    PubAck(u16, Reason, Option<String>),
    PubRec(u16, Reason, Option<String>),
    PubComp(u16, bool),
    /// QoS granted, or none.
    SubAck(u16, Vec<Option<u8>>),
    UnsubAck(u16, Vec<bool>),
    Pong,
    Disconnect(Ended),
}

/// Length of the first packet in `bytes`; none while its head is not there yet.
pub(crate) fn packet_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut length = 0_usize;
    for place in 0..4 {
        let Some(byte) = bytes.get(1 + place) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some(2 + place + length));
        }
    }
    Err(Malformed(
        "the length of a packet has more than four bytes".to_owned(),
    ))
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn pid(id: u16) -> Result<Pid, CodecError> {
    Pid::try_from(id)
}

fn qos_number(qos: QoS) -> u8 {
    qos as u8
}

/// Name and level of the protocol in a CONNECT packet, as far as both versions have them.
fn protocol_of(packet: &[u8]) -> Option<&[u8]> {
    let last = packet.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0)?;
    packet.get(last + 2..last + 9)
}

/// Reads the CONNECT packet.
///
/// # Errors
/// It is not one, or of another version (then the code for it).
pub(crate) fn read_connect(packet: &[u8]) -> Result<Connect, (NotConnected, Malformed)> {
    let malformed = |why: String| (NotConnected::ClientId, Malformed(why));
    if packet.first() != Some(&0x10) {
        return Err(malformed("the first packet is not CONNECT".to_owned()));
    }
    let protocol = protocol_of(packet).ok_or_else(|| malformed("CONNECT is too short".to_owned()))?;
    match protocol {
        [0, 4, b'M', b'Q', b'T', b'T', 4] => {
            let packet = v3::Packet::decode(packet).map_err(|e| malformed(e.to_string()))?;
            let Some(v3::Packet::Connect(connect)) = packet else {
                return Err(malformed("CONNECT is cut short".to_owned()));
            };
            Ok(Connect {
                version: Version::V3,
                clean: connect.clean_session,
                keep_alive: connect.keep_alive,
                client_id: text(&connect.client_id),
                will: connect.last_will.map(|will| Will {
                    topic: text(&will.topic_name),
                    payload: will.message,
                }),
                user: connect.username.as_deref().map(text),
                password: connect.password,
                session_expiry: if connect.clean_session { 0 } else { u32::MAX },
                receive_maximum: u16::MAX,
                max_packet: None,
            })
        }
        [0, 4, b'M', b'Q', b'T', b'T', 5] => {
            let packet = v5::Packet::decode(packet).map_err(|e| malformed(e.to_string()))?;
            let Some(v5::Packet::Connect(connect)) = packet else {
                return Err(malformed("CONNECT is cut short".to_owned()));
            };
            let properties = connect.properties;
            if properties.auth_method.is_some() {
                let why = "extended authentication is not supported".to_owned();
                return Err((NotConnected::NotAuthorized, Malformed(why)));
            }
            Ok(Connect {
                version: Version::V5,
                clean: connect.clean_start,
                keep_alive: connect.keep_alive,
                client_id: text(&connect.client_id),
                will: connect.last_will.map(|will| Will {
                    topic: text(&will.topic_name),
                    payload: will.payload,
                }),
                user: connect.username.as_deref().map(text),
                password: connect.password,
                session_expiry: properties.session_expiry_interval.unwrap_or_default(),
                receive_maximum: properties.receive_max.unwrap_or(u16::MAX).max(1),
                max_packet: properties.max_packet_size,
            })
        }
        _ => Err((
            NotConnected::Version,
            Malformed("it is neither MQTT 3.1.1 nor 5".to_owned()),
        )),
    }
}

/// Reads a whole packet.
///
/// # Errors
/// It is malformed, or not one that a client may send now.
pub(crate) fn read(version: Version, packet: &[u8]) -> Result<Incoming, Malformed> {
    match version {
        Version::V3 => read_v3(packet),
        Version::V5 => read_v5(packet),
    }
}

fn unexpected(kind: &str) -> Malformed {
    Malformed(format!("a {kind} packet is not expected from a client now"))
}

fn published(qos_pid: QosPid) -> (u8, u16) {
    (qos_number(qos_pid.qos()), qos_pid.pid().map_or(0, Pid::value))
}

fn read_v3(packet: &[u8]) -> Result<Incoming, Malformed> {
    let packet = v3::Packet::decode(packet)
        .map_err(|e| Malformed(e.to_string()))?
        .ok_or_else(|| Malformed("a packet is cut short".to_owned()))?;
    Ok(match packet {
        v3::Packet::Publish(publish) => {
            let (qos, id) = published(publish.qos_pid);
            Incoming::Publish {
                qos,
                id,
                topic: text(&publish.topic_name),
                payload: publish.payload,
            }
        }
        v3::Packet::Puback(id) => Incoming::PubAck(id.value()),
        v3::Packet::Pubrec(id) => Incoming::PubRec(id.value()),
        v3::Packet::Pubrel(id) => Incoming::PubRel(id.value()),
        v3::Packet::Pubcomp(id) => Incoming::PubComp(id.value()),
        v3::Packet::Subscribe(subscribe) => Incoming::Subscribe {
            id: subscribe.pid.value(),
            filters: subscribe
                .topics
                .iter()
                .map(|(filter, qos)| (text(filter), qos_number(*qos)))
                .collect(),
        },
        v3::Packet::Unsubscribe(unsubscribe) => Incoming::Unsubscribe {
            id: unsubscribe.pid.value(),
            filters: unsubscribe.topics.iter().map(|filter| text(filter)).collect(),
        },
        v3::Packet::Pingreq => Incoming::Ping,
        v3::Packet::Disconnect => Incoming::Disconnect {
            with_will: false,
            session_expiry: None,
        },
        other => return Err(unexpected(&format!("{:?}", other.get_type()))),
    })
}

fn read_v5(packet: &[u8]) -> Result<Incoming, Malformed> {
    let packet = v5::Packet::decode(packet)
        .map_err(|e| Malformed(e.to_string()))?
        .ok_or_else(|| Malformed("a packet is cut short".to_owned()))?;
    Ok(match packet {
        v5::Packet::Publish(publish) => {
            let (qos, id) = published(publish.qos_pid);
            if publish.properties.topic_alias.is_some() {
                return Err(Malformed("topic aliases were not offered".to_owned()));
            }
            Incoming::Publish {
                qos,
                id,
                topic: text(&publish.topic_name),
                payload: publish.payload,
            }
        }
        v5::Packet::Puback(ack) => Incoming::PubAck(ack.pid.value()),
        v5::Packet::Pubrec(rec) => Incoming::PubRec(rec.pid.value()),
        v5::Packet::Pubrel(rel) => Incoming::PubRel(rel.pid.value()),
        v5::Packet::Pubcomp(comp) => Incoming::PubComp(comp.pid.value()),
        v5::Packet::Subscribe(subscribe) => Incoming::Subscribe {
            id: subscribe.pid.value(),
            filters: subscribe
                .topics
                .iter()
                .map(|(filter, options)| (text(filter), qos_number(options.max_qos)))
                .collect(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => Incoming::Unsubscribe {
            id: unsubscribe.pid.value(),
            filters: unsubscribe.topics.iter().map(|filter| text(filter)).collect(),
        },
        v5::Packet::Pingreq => Incoming::Ping,
        v5::Packet::Disconnect(disconnect) => Incoming::Disconnect {
            with_will: disconnect.reason_code == v5::DisconnectReasonCode::DisconnectWithWillMessage,
            session_expiry: disconnect.properties.session_expiry_interval,
        },
        other => return Err(unexpected(&format!("{:?}", other.get_type()))),
    })
}

/// Writes a packet; none where the version has no such packet.
pub(crate) fn write(version: Version, packet: &Outgoing) -> Result<Option<VarBytes>, CodecError> {
    match version {
        Version::V3 => v3_packet(packet)?.map(|p| p.encode()).transpose(),
        Version::V5 => v5_packet(packet)?.map(|p| p.encode()).transpose(),
    }
}

fn topic_name(topic: &str) -> Result<TopicName, CodecError> {
    TopicName::try_from(topic)
}

fn qos_pid(qos: u8, id: u16) -> Result<QosPid, CodecError> {
    Ok(match qos {
        0 => QosPid::Level0,
        1 => QosPid::Level1(pid(id)?),
        _ => QosPid::Level2(pid(id)?),
    })
}

fn v3_packet(packet: &Outgoing) -> Result<Option<v3::Packet>, CodecError> {
    use v3::ConnectReturnCode as Code;
    Ok(Some(match packet {
        Outgoing::Connected { session_present, .. } => {
            v3::Packet::Connack(v3::Connack::new(*session_present, Code::Accepted))
        }
        Outgoing::NotConnected(why) => {
            let code = match why {
                NotConnected::Version => Code::UnacceptableProtocolVersion,
                NotConnected::ClientId => Code::IdentifierRejected,
                NotConnected::BadLogin => Code::BadUserNameOrPassword,
                NotConnected::NotAuthorized => Code::NotAuthorized,
                NotConnected::Busy => Code::ServerUnavailable,
            };
            v3::Packet::Connack(v3::Connack::new(false, code))
        }
        Outgoing::Publish {
            qos,
            id,
            dup,
            topic,
            payload,
        } => {
            let mut publish = v3::Publish::new(qos_pid(*qos, *id)?, topic_name(topic)?, payload.clone());
            publish.dup = *dup;
            v3::Packet::Publish(publish)
        }
        // There is no way to say no: what is not taken is not acknowledged.
        Outgoing::PubAck(id, Reason::Success, _) => v3::Packet::Puback(pid(*id)?),
        Outgoing::PubRec(id, Reason::Success, _) => v3::Packet::Pubrec(pid(*id)?),
        Outgoing::PubAck(..) | Outgoing::PubRec(..) | Outgoing::Disconnect(_) => return Ok(None),
        Outgoing::PubComp(id, _) => v3::Packet::Pubcomp(pid(*id)?),
        Outgoing::SubAck(id, granted) => {
            let code = |qos: &Option<u8>| match qos {
                Some(0) => v3::SubscribeReturnCode::MaxLevel0,
                Some(_) => v3::SubscribeReturnCode::MaxLevel1,
                None => v3::SubscribeReturnCode::Failure,
            };
            v3::Packet::Suback(v3::Suback::new(pid(*id)?, granted.iter().map(code).collect()))
        }
        Outgoing::UnsubAck(id, _) => v3::Packet::Unsuback(pid(*id)?),
        Outgoing::Pong => v3::Packet::Pingresp,
    }))
}

fn puback_code(reason: Reason) -> v5::PubackReasonCode {
    use v5::PubackReasonCode as Code;
    match reason {
        Reason::Success => Code::Success,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::QuotaExceeded => Code::QuotaExceeded,
        Reason::PayloadInvalid => Code::PayloadFormatInvalid,
        Reason::Failed => Code::UnspecifiedError,
    }
}

fn pubrec_code(reason: Reason) -> v5::PubrecReasonCode {
    use v5::PubrecReasonCode as Code;
    match reason {
        Reason::Success => Code::Success,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::QuotaExceeded => Code::QuotaExceeded,
        Reason::PayloadInvalid => Code::PayloadFormatInvalid,
        Reason::Failed => Code::UnspecifiedError,
    }
}

fn connack_code(why: NotConnected) -> v5::ConnectReasonCode {
    use v5::ConnectReasonCode as Code;
    match why {
        NotConnected::Version => Code::UnsupportedProtocolVersion,
        NotConnected::ClientId => Code::ClientIdentifierNotValid,
        NotConnected::BadLogin => Code::BadUserNameOrPassword,
        NotConnected::NotAuthorized => Code::NotAuthorized,
        NotConnected::Busy => Code::ServerBusy,
    }
}

fn v5_packet(packet: &Outgoing) -> Result<Option<v5::Packet>, CodecError> {
    let shared = |text: &Option<String>| text.as_deref().map(Arc::<str>::from);
    Ok(Some(match packet {
        Outgoing::Connected {
            session_present,
            assigned,
            session_expiry,
        } => {
            let mut connack = v5::Connack::new(*session_present, v5::ConnectReasonCode::Success);
            connack.properties.receive_max = Some(RECEIVE_MAXIMUM);
            connack.properties.retain_available = Some(false);
            connack.properties.max_packet_size = Some(u32::try_from(MAX_PACKET).unwrap_or(u32::MAX));
            connack.properties.assigned_client_id = shared(assigned);
            connack.properties.session_expiry_interval = Some(*session_expiry);
            connack.properties.subscription_id_available = Some(false);
            connack.properties.shared_subscription_available = Some(false);
            connack.into()
        }
        Outgoing::NotConnected(why) => v5::Connack::new(false, connack_code(*why)).into(),
        Outgoing::Publish {
            qos,
            id,
            dup,
            topic,
            payload,
        } => {
            let mut publish = v5::Publish::new(qos_pid(*qos, *id)?, topic_name(topic)?, payload.clone());
            publish.dup = *dup;
            publish.properties.content_type = Some("application/json".into());
            publish.into()
        }
        Outgoing::PubAck(id, reason, why) => {
            let mut ack = v5::Puback::new(pid(*id)?, puback_code(*reason));
            ack.properties.reason_string = shared(why);
            ack.into()
        }
        Outgoing::PubRec(id, reason, why) => {
            let mut rec = v5::Pubrec::new(pid(*id)?, pubrec_code(*reason));
            rec.properties.reason_string = shared(why);
            rec.into()
        }
        Outgoing::PubComp(id, known) => {
            let code = if *known {
                v5::PubcompReasonCode::Success
            } else {
                v5::PubcompReasonCode::PacketIdentifierNotFound
            };
            v5::Pubcomp::new(pid(*id)?, code).into()
        }
        Outgoing::SubAck(id, granted) => {
            let code = |qos: &Option<u8>| match qos {
                Some(0) => v5::SubscribeReasonCode::GrantedQoS0,
                Some(_) => v5::SubscribeReasonCode::GrantedQoS1,
                None => v5::SubscribeReasonCode::NotAuthorized,
            };
            v5::Suback::new(pid(*id)?, granted.iter().map(code).collect()).into()
        }
        Outgoing::UnsubAck(id, known) => {
            let code = |known: &bool| {
                if *known {
                    v5::UnsubscribeReasonCode::Success
                } else {
                    v5::UnsubscribeReasonCode::NoSubscriptionExisted
                }
            };
            v5::Unsuback::new(pid(*id)?, known.iter().map(code).collect()).into()
        }
        Outgoing::Pong => v5::Packet::Pingresp,
        Outgoing::Disconnect(why) => {
            use v5::DisconnectReasonCode as Code;
            let code = match why {
                Ended::ProtocolError => Code::ProtocolError,
                Ended::Malformed => Code::MalformedPacket,
                Ended::KeepAlive => Code::KeepAliveTimeout,
                Ended::TakenOver => Code::SessionTakenOver,
                Ended::ShuttingDown => Code::ServerShuttingDown,
                Ended::PacketTooLarge => Code::PacketTooLarge,
                Ended::Quota => Code::QuotaExceeded,
            };
            v5::Disconnect::new(code).into()
        }
    }))
}

/// The version to answer a CONNECT in that could not be used.
pub(crate) fn version_of(packet: &[u8]) -> Version {
    match protocol_of(packet) {
        Some([.., 5]) => Version::V5,
        _ => Version::V3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(packet: impl Into<v5::Packet>) -> Vec<u8> {
        packet.into().encode().unwrap().as_ref().to_vec()
    }

    #[test]
    fn both_versions_are_told_apart() {
        let mut five = v5::Connect::new("c5".into(), 30);
        five.properties.session_expiry_interval = Some(60);
        let connect = read_connect(&bytes_of(five)).unwrap();
        assert_eq!(
            (
                connect.version,
                connect.session_expiry,
                connect.client_id.as_str()
            ),
            (Version::V5, 60, "c5")
        );
        let mut three = v3::Connect::new("c3".into(), 30);
        three.clean_session = false;
        three.username = Some("u".into());
        let three = v3::Packet::Connect(three).encode().unwrap();
        let connect = read_connect(three.as_ref()).unwrap();
        assert_eq!(
            (connect.version, connect.session_expiry, connect.user.as_deref()),
            (Version::V3, u32::MAX, Some("u"))
        );
        let old = b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x1e\x00\x00";
        assert_eq!(read_connect(old).unwrap_err().0, NotConnected::Version);
        assert!(read_connect(b"\xc0\x00").is_err());
        assert!(read_connect(b"\x10").is_err());
    }

    #[test]
    fn packets_are_cut_at_their_lengths() {
        assert_eq!(packet_length(b"\xc0"), Ok(None));
        assert_eq!(packet_length(b"\xc0\x00"), Ok(Some(2)));
        assert_eq!(packet_length(b"\x30\x80"), Ok(None));
        assert_eq!(packet_length(b"\x30\x80\x01"), Ok(Some(131)));
        assert!(packet_length(b"\x30\x80\x80\x80\x80\x01").is_err());
    }

    #[test]
    fn a_client_of_version_three_hears_no_refusal() {
        let refused = Outgoing::PubAck(7, Reason::QuotaExceeded, None);
        assert_eq!(write(Version::V3, &refused).unwrap(), None);
        let bytes = write(Version::V5, &refused).unwrap().unwrap();
        assert_eq!(bytes.as_ref()[4], 0x97);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            kind in any::<u8>(),
            body in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut packet = vec![kind, u8::try_from(body.len()).unwrap()];
            packet.extend_from_slice(&body);
            drop(read_connect(&packet));
            drop(read(Version::V3, &packet));
            drop(read(Version::V5, &packet));
        }

        #[test]
        fn any_connect_is_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..100), level in 4..6_u8) {
            let mut packet = vec![0x10, u8::try_from(body.len() + 7).unwrap(), 0, 4, b'M', b'Q', b'T', b'T', level];
            packet.extend_from_slice(&body);
            drop(read_connect(&packet));
        }
    }
}
