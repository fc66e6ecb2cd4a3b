//! Clients that hand in messages and write down what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::thread::sleep;

use serde_json::Value;
use serde_json::json;

use super::draw::Draws;
use crate::http::Answer;
use crate::http::Client;

/// What all clients wrote down.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By destination, which no two messages share.
    pub(super) orders: BTreeMap<String, Order>,
    /// How often each answer came: a status with its code, or none.
    pub(super) answers: BTreeMap<String, u64>,
    /// What should not have happened.
    pub(super) complaints: Vec<String>,
}

/// A message that a client wants sent.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) class: &'static str,
    pub(super) told: Told,
    pub(super) recall: Recall,
}

/// What became of a client's wish to have its message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// It had none.
    None,
    /// It has no answer, or was refused.
    Asked,
    /// The message is withdrawn.
    Done,
}

/// What a client knows of its message in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is accepted, under this id.
    Accepted(String),
    /// It is not.
    Refused,
    /// No answer, or one that leaves it open.
    Nothing,
}

/// What the clients share.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) client: Client,
    pub(super) book: Arc<Mutex<Book>>,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// How a client goes about it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// A message now and then, each until it is known to be accepted or refused.
    Steady,
    /// As many as can be, and none twice.
    Flood,
}

impl Desk {
    pub(super) fn new(client: Client) -> Self {
        let next = Arc::new(AtomicU64::new(10_000_000));
        Self { client, book: Arc::default(), next, stop: Arc::default() }
    }

    /// The same desk with an end of its own.
    pub(super) fn aside(&self) -> Self {
        Self { stop: Arc::default(), ..self.clone() }
    }

    pub(super) fn staff(&self, manner: Manner, draws: Draws) -> JoinHandle<()> {
        let desk = self.clone();
        std::thread::spawn(move || desk.work(manner, draws))
    }

    /// How many messages are accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.book.lock().unwrap().answers.get("202").copied().unwrap_or_default()
    }

    /// How many were refused because nothing can be written.
    pub(super) fn refused_for_the_disk(&self) -> u64 {
        let book = self.book.lock().unwrap();
        book.answers.get("503 store_unavailable").copied().unwrap_or_default()
    }

    /// Lets the clients finish what they have begun.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn work(&self, manner: Manner, mut draws: Draws) {
        while !self.stop.load(Ordering::Relaxed) {
            match manner {
                Manner::Steady => {
                    self.hand_in(&mut draws);
                    sleep(draws.millis(5, 60));
                }
                Manner::Flood => self.throw_in(&mut draws),
            }
        }
    }

    fn destination(&self) -> String {
        format!("8190{:08}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn order(&self, draws: &mut Draws) -> (String, Value, Order) {
        let to = self.destination();
        let class = draws.pick(&["otp", "transactional", "transactional", "marketing"]);
        let text =
            if draws.per_cent(15) { "飛脚".repeat(80) } else { "code kotoba4711".to_owned() };
        let body = json!({ "to": format!("+{to}"), "text": text, "class": class });
        (to, body, Order { class, told: Told::Nothing, recall: Recall::None })
    }

    /// Hands one message in as a careful client does: with a key, and until there is an answer.
    fn hand_in(&self, draws: &mut Draws) {
        let (to, body, order) = self.order(draws);
        let has_key = draws.per_cent(80);
        // Written down before it is said: whoever sees it elsewhere finds it here.
        self.book.lock().unwrap().orders.insert(to.clone(), order);
        let headers = if has_key { format!("idempotency-key: {to}\r\n") } else { String::new() };
        let mut is_open = false;
        loop {
            let answer = self.client.call_with("POST", "/v1/messages", &headers, Some(&body));
            let told = match self.note(answer.as_ref()) {
                // An earlier attempt may have been accepted.
                Told::Refused if is_open => Told::Nothing,
                told => told,
            };
            is_open |= told == Told::Nothing;
            let is_busy = answer.is_some_and(|answer| answer.status == 503);
            let is_settled = told != Told::Nothing && !is_busy;
            if is_settled || !has_key || draws.per_cent(5) {
                self.learn(&to, told.clone());
                if let Told::Accepted(id) = told {
                    if draws.per_cent(5) {
                        self.doubt(&to, &id, &headers, &body);
                    }
                    if draws.per_cent(8) {
                        self.recall(&to, &id);
                    }
                }
                return;
            }
            sleep(draws.millis(20, 300));
        }
    }

    /// Hands in a hundred messages as nobody should: at once, without a key, and only once.
    fn throw_in(&self, draws: &mut Draws) {
        let (mut all, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let (to, body, order) = self.order(draws);
            self.book.lock().unwrap().orders.insert(to.clone(), order);
            all.push(to);
            bodies.push(body);
        }
        let answer = self.client.post("/v1/messages/batch", &json!({ "messages": bodies }));
        match &answer {
            Some(answer) if answer.status == 200 => {
                let results = answer.body["results"].as_array().unwrap();
                for (to, result) in all.iter().zip(results) {
                    let told = match result.get("problem") {
                        None => self.note_as(202, result),
                        Some(problem) => {
                            let status = u16::try_from(problem["status"].as_u64().unwrap());
                            self.note_as(status.unwrap(), problem)
                        }
                    };
                    self.learn(to, told);
                }
            }
            answer => {
                let told = self.note(answer.as_ref());
                all.iter().for_each(|to| self.learn(to, told.clone()));
            }
        }
        sleep(draws.millis(1, 50));
    }

    fn note(&self, answer: Option<&Answer>) -> Told {
        match answer {
            Some(answer) => self.note_as(answer.status, &answer.body),
            None => {
                self.count("no answer".to_owned());
                Told::Nothing
            }
        }
    }

    fn note_as(&self, status: u16, body: &Value) -> Told {
        if status == 202 {
            self.count("202".to_owned());
            return Told::Accepted(body["id"].as_str().unwrap().to_owned());
        }
        self.count(format!("{status} {}", body["code"].as_str().unwrap_or_default()));
        // It may be accepted all the same, or be accepted by the first request that still runs.
        let is_open = status == 409 || status == 500 || body["code"] == "not_confirmed";
        if is_open { Told::Nothing } else { Told::Refused }
    }

    fn count(&self, answer: String) {
        *self.book.lock().unwrap().answers.entry(answer).or_default() += 1;
    }

    fn learn(&self, to: &str, told: Told) {
        self.book.lock().unwrap().orders.get_mut(to).unwrap().told = told;
    }

    fn complain(&self, complaint: String) {
        self.book.lock().unwrap().complaints.push(complaint);
    }

    /// Asks to have a message back.
    fn recall(&self, to: &str, id: &str) {
        let learn = |recall| self.book.lock().unwrap().orders.get_mut(to).unwrap().recall = recall;
        learn(Recall::Asked);
        let answer = self.client.post(&format!("/v1/messages/{id}/cancel"), &json!({}));
        if answer.is_some_and(|answer| answer.status == 200) {
            learn(Recall::Done);
        }
    }

    /// Asks after an accepted message, and hands it in once more with its key.
    fn doubt(&self, to: &str, id: &str, headers: &str, body: &Value) {
        if let Some(found) = self.client.get(&format!("/v1/messages/{id}"))
            && found.status == 404
        {
            self.complain(format!("{to} was accepted as {id}, which is not found right after"));
        }
        if headers.is_empty() {
            return;
        }
        let again = self.client.call_with("POST", "/v1/messages", headers, Some(body));
        if let Told::Accepted(other) = self.note(again.as_ref())
            && other != id
        {
            self.complain(format!("{to} was accepted as {id}, and again as {other}"));
        }
    }
}
