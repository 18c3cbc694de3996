use proptest::prelude::*;

use super::*;

#[test]
fn identities_are_listed_once_per_occurrence_in_order() {
    let policy =
        parse("AND('A.peer', OR('B.admin', 'A.peer'), OutOf(2, 'C.member', 'D.client', 'E-1.x.orderer'))")
            .unwrap();
    let expected: Vec<_> = [
        ("A", MspRoleType::Peer),
        ("B", MspRoleType::Admin),
        ("A", MspRoleType::Peer),
        ("C", MspRoleType::Member),
        ("D", MspRoleType::Client),
        ("E-1.x", MspRoleType::Orderer),
    ]
    .iter()
    .map(|(id, role)| role_principal(id, *role))
    .collect();
    assert_eq!(policy.identities, expected);
    assert_eq!(policy.version, 0);
    let rule = n_out_of(
        3,
        vec![
            signed_by(0),
            n_out_of(1, vec![signed_by(1), signed_by(2)]),
            n_out_of(2, vec![signed_by(3), signed_by(4), signed_by(5)]),
        ],
    );
    assert_eq!(policy.rule, Some(rule));
}

#[test]
fn spelling_is_tolerant_where_fabric_is() {
    let reference = parse("OutOf(1, 'A.peer', 'B.peer')").unwrap();
    for text in [
        "OR('A.peer','B.peer')",
        "or( \"A.peer\" ,\n'B.peer' )",
        "outof(1,'A.peer','B.peer')",
        " Or('A.peer','B.peer') ",
        "OutOf('1', 'A.peer', 'B.peer')",
        "OUTOF( 1 , 'A.peer', 'B.peer')",
    ] {
        assert_eq!(parse(text).as_ref(), Ok(&reference), "{text}");
    }
    assert_eq!(signed_by_any_role(&["B", "A"], MspRoleType::Peer), reference);
}

#[test]
fn the_encoding_is_that_of_the_peer_command() {
    // rule: field 2 { n_out_of: field 2 { n: field 1 = 1, rules: field 2 { signed_by: field 1 = 0, present though zero } } },
    // identities: field 3 { principal: field 2 = pb(MSPRole { msp_identifier "Org1MSP" }) }; zero fields are left out.
    let bytes = parse("OR('Org1MSP.member')").unwrap().encode_to_vec();
    let rule = ["1208", "1206", "0801", "1202", "0800"].concat();
    let identity = ["1a0b", "1209", "0a07", &hex::encode("Org1MSP")].concat();
    assert_eq!(hex::encode(bytes), rule + &identity);
}

#[test]
fn counts_are_limited() {
    for (n, good) in [(-1, false), (0, true), (2, true), (3, true), (4, false)] {
        assert_eq!(
            parse(&format!("OutOf({n}, 'A.peer', 'B.peer')")).is_ok(),
            good,
            "{n}"
        );
    }
}

#[test]
fn errors_say_where_and_why() {
    for (text, part) in [
        ("", "the end of the text"),
        ("'A.peer'", "one of the gates"),
        ("AND", "'('"),
        ("AND('A.peer'", "',' or ')'"),
        ("AND('A.peer') x", "found 'x'"),
        ("AND('A.peer' 'B.peer')", "',' or ')'"),
        ("AND()", "AND needs at least one"),
        ("OutOf(1)", "OutOf needs at least one"),
        ("OutOf('A.peer')", "a number"),
        ("OutOf(99999999999999999999, 'A.peer')", "a number"),
        ("XOR('A.peer')", "'XOR' is unknown"),
        ("AND(A.peer)", "'A' is unknown"),
        ("AND('A.boss')", "'A.boss' is not a principal"),
        ("AND('peer')", "is not a principal"),
        ("AND('.peer')", "is not a principal"),
        ("AND('A_1.peer')", "is not a principal"),
        ("AND('A.Peer')", "is not a principal"),
        ("AND('A.peer)", "a closing quote"),
        ("AND('A.peer',)", "needs at least one"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let deep = "AND(".repeat(40) + "'A.peer'" + &")".repeat(40);
    assert_eq!(parse(&deep), Err(DslError::TooLarge));
    assert_eq!(parse(&" ".repeat(MAX_TEXT + 1)), Err(DslError::TooLarge));
}

fn policy_text() -> impl Strategy<Value = String> {
    let principal = (
        "[A-C][a-z0-9.-]{0,6}",
        prop_oneof![
            Just("member"),
            Just("admin"),
            Just("client"),
            Just("peer"),
            Just("orderer")
        ],
    )
        .prop_map(|(id, role)| format!("'{id}.{role}'"));
    principal.prop_recursive(4, 40, 4, |inner| {
        (proptest::collection::vec(inner, 1..5), 0usize..3, 0usize..7).prop_map(|(rules, gate, n)| {
            let list = rules.join(", ");
            match gate {
                0 => format!("AND({list})"),
                1 => format!("OR({list})"),
                _ => format!("OutOf({}, {list})", n.min(rules.len() + 1)),
            }
        })
    })
}

proptest! {
    #[test]
    fn what_is_displayed_parses_to_the_same(text in policy_text()) {
        let text = if text.starts_with('\'') { format!("OR({text})") } else { text };
        let policy = parse(&text).unwrap();
        prop_assert_eq!(parse(&display(&policy)).unwrap(), policy);
    }

    #[test]
    fn any_text_is_survived(text in "[ANDORutf(),'\". 0-9-]{0,60}|\\PC{0,60}") {
        let _ = parse(&text);
    }
}
