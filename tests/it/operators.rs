//! The operators' listener of the real process.

use hikyaku::api::NewKey;

use crate::http::Client;
use crate::process::Carriers;
use crate::process::House;
use crate::process::free_port;
use crate::process::one_carrier;
use crate::process::quick;

#[test]
fn an_operator_sees_the_carriers_and_takes_the_configuration_again() {
    let carriers = Carriers::new();
    let (_, port) = carriers.open(quick());
    let key = NewKey::generate().unwrap();
    let operators = Client { port: free_port(), token: key.token };
    let house = House::new(&format!(
        "{}[admin]\nlisten = \"127.0.0.1:{}\"\n[admin.operators.noc]\nkeys = [\"{}\"]\n\
         scopes = [\"console:view\", \"console:act\"]\n",
        one_carrier(port),
        operators.port,
        key.hash
    ));
    let daemon = house.start();
    let one = loop {
        let seen = operators.get("/admin/v1/carriers").unwrap().body["carriers"][0].clone();
        if seen["binds"][0]["state"] == "bound" {
            break seen;
        }
        std::thread::yield_now();
    };
    assert_eq!((&one["name"], &one["rate"]), (&"one".into(), &"2000/s".into()), "{one}");
    assert_eq!(one["binds"][0]["remote"], format!("127.0.0.1:{port}"));
    assert_eq!(one["queues"].as_array().unwrap().len(), 3);
    let metrics = operators.get("/metrics").unwrap().text;
    assert!(metrics.contains("hikyaku_bind_up{carrier=\"one\",bind=\"0\"} 1"), "{metrics}");
    assert_eq!(house.client.get("/metrics").unwrap().status, 404);
    assert_eq!(house.client.get("/admin/v1/carriers").unwrap().status, 404);
    assert_eq!(
        Client { port: operators.port, token: house.client.token.clone() }
            .get("/admin/v1/carriers")
            .unwrap()
            .status,
        401
    );

    let good = std::fs::read_to_string(house.config()).unwrap();
    let slower = good.replace("rate = \"2000/s\"", "rate = \"1000/s\"");
    let slower = slower.replace("drain = \"5s\"", "drain = \"6s\"");
    std::fs::write(house.config(), &slower).unwrap();
    let reload = || operators.post("/admin/v1/reload", &serde_json::json!({})).unwrap();
    let done = reload();
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.body["changed"], serde_json::json!(["carriers.one.rate", "drain"]));
    assert_eq!(done.body["from_next_start"], serde_json::json!(["drain"]));
    assert_eq!(done.body["untouched"], serde_json::json!(["one"]));
    std::fs::write(house.config(), format!("{slower}[log]\nformat = \"x\"\ncolour = 1\n")).unwrap();
    let refused = reload();
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(refused.body["errors"].as_array().unwrap().len(), 2, "{}", refused.text);
    assert_eq!(refused.body["errors"][0]["pointer"], "/log/format");
    std::fs::write(house.config(), slower).unwrap();
    assert_eq!(reload().body["changed"], serde_json::json!([]), "nothing was taken");
    assert!(daemon.stop().success());
    assert!(house.said().contains("operator=noc"), "{}", house.said());
}
