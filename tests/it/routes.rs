//! What a client may rely on once it has been answered: the name server knows already.

use crate::support::*;

#[test]
fn a_created_topic_has_its_route_when_the_answer_comes() {
    let system = System::start();
    for number in 0..20 {
        system.create_topic(&format!("Created{number}"), 4);
    }
}

#[test]
fn a_topic_that_a_send_creates_has_its_route_when_the_answer_comes() {
    let system = System::start();
    for number in 0..20 {
        let topic = format!("SentTo{number}");
        let response = system.connect().call(&send(&topic, b"first"));
        assert!(is_success(&response), "{:?}", response.header.remark);
        assert!(system.has_route(&topic), "no route for {topic}");
    }
}

#[test]
fn a_name_server_that_is_not_there_delays_nobody() {
    let system = System::start_with(|config| {
        let living = config.namesrv_addr.take().unwrap();
        config.namesrv_addr = Some(format!("127.0.0.1:1;{living}"));
    });
    system.create_topic("Created", 4);
    assert!(is_success(&system.connect().call(&send("SentTo", b"first"))));
}
