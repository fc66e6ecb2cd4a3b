//! Clients that come by HTTP: what they send to the door, and what they make of its answers.

use std::time::Duration;

use hikyaku::dispatch::Event;
use hikyaku::dispatch::Reply;
use hikyaku::message::State;
use hikyaku::time::Time;
use serde_json::Value;
use serde_json::json;

use super::carrier::SENDER;
use super::carrier::message_of;
use super::door::ANSWER_TIMEOUT;
use super::door::Answer;
use super::door::Call;
use super::plan::Request;
use super::story::Kept;
use super::story::broken;
use super::world::Asked;
use super::world::Next;
use super::world::START;
use super::world::World;

impl World {
    /// Hands these requests in: alone, or those of one key without an idempotency key as a batch.
    pub(super) fn call(&mut self, mut due: Vec<usize>) {
        while let Some(about) = due.pop() {
            let key = self.clients[about].request.key;
            let is_alone = |client: usize| {
                let request = &self.clients[client].request;
                request.key != key || request.is_idempotent
            };
            let rest: Vec<usize> = if is_alone(about) {
                Vec::new()
            } else {
                due.extract_if(.., |other| !is_alone(*other)).collect()
            };
            if rest.is_empty() {
                self.call_with(about);
            } else {
                self.call_batch(about, rest);
            }
        }
    }

    fn call_with(&mut self, about: usize) {
        self.awaits(&[about]);
        let request = &self.clients[about].request;
        let body = written(about, request);
        let stolen = about.checked_sub(1).filter(|_| request.steals_key);
        let key = format!("k{}", stolen.unwrap_or(about));
        let idempotency = request.is_idempotent.then_some(key);
        let line = (request.key, "POST /v1/messages", idempotency);
        self.send(Call::Message(about), line, Some(&body));
    }

    fn call_batch(&mut self, about: usize, mut all: Vec<usize>) {
        all.push(about);
        self.coverage.count("http batch".into());
        self.awaits(&all);
        let bodies = all.iter().map(|about| written(*about, &self.clients[*about].request));
        let body = json!({ "messages": bodies.collect::<Vec<_>>() });
        let line = (self.clients[about].request.key, "POST /v1/messages/batch", None);
        self.send(Call::Batch(all), line, Some(&body));
    }

    /// Some time is given to all of them.
    fn awaits(&mut self, all: &[usize]) {
        let least = self.draws.pick(&[1, 200]);
        let until = self.now + self.draws.millis(least, least * 50);
        for about in all {
            self.clients[*about].tries += 1;
            self.clients[*about].next = Next::Await { until };
        }
    }

    fn send(&mut self, call: Call, line: (u64, &str, Option<String>), body: Option<&Value>) {
        let here = self.local();
        if let Some(door) = self.process.as_mut().and_then(|process| process.door.as_mut()) {
            door.call(here, call, line, body);
        }
    }

    /// Asks to have a message back.
    pub(super) fn call_back(&mut self, about: usize) {
        let Some(id) = self.truth.messages[about].told else { return };
        let line = format!("POST /v1/messages/{id}/cancel");
        self.send(Call::Cancel(about), (self.clients[about].request.key, &line, None), None);
    }

    /// Asks how it stands with a message.
    pub(super) fn look_up(&mut self, about: usize) {
        let message = &self.truth.messages[about];
        let (Some(id), had_ended) = (message.told, message.finish.is_some()) else { return };
        let line = format!("GET /v1/messages/{id}");
        let call = Call::Read { about, at: self.now, had_ended };
        self.send(call, (self.clients[about].request.key, &line, None), None);
    }

    /// Lets the door go on, and clients hear what it says.
    pub(super) fn turn_door(&mut self) -> Kept {
        let here = self.local();
        let Some(process) = &mut self.process else { return Ok(()) };
        let Some(door) = &mut process.door else { return Ok(()) };
        let asked = door.turn(here, process.reader.end());
        let answers = door.answers();
        door.keeps_nobody(here)?;
        for event in &asked {
            match event {
                Event::Accept { ticket, submission } => {
                    let from = submission.from.as_deref().unwrap_or_default();
                    let about = message_of(from.as_bytes()).unwrap();
                    self.truth.by_id.insert(submission.id, about);
                    self.tickets.insert(*ticket, (about, Asked::Accept));
                }
                Event::Cancel { ticket, id, .. } => {
                    self.tickets.insert(*ticket, (self.truth.by_id[id], Asked::Cancel));
                }
                _ => {}
            }
        }
        process.inbox.extend(asked);
        answers.into_iter().try_for_each(|(call, answer)| self.answered(call, &answer))
    }

    fn answered(&mut self, call: Call, answer: &Answer) -> Kept {
        let status = answer.status;
        self.coverage.count(format!("http {status} {}", answer.code()).trim().to_owned());
        if matches!(status, 429 | 503) && answer.retry_after().is_none() {
            return broken(None, format!("{call:?} is refused without Retry-After: {answer:?}"));
        }
        match call {
            Call::Message(about) => self.told(about, status, &answer.body, answer.retry_after()),
            Call::Batch(all) if status == 200 => {
                let results = answer.body["results"].as_array().unwrap();
                all.into_iter().zip(results).try_for_each(|(about, result)| {
                    match result.get("problem") {
                        None => self.told(about, 202, result, None),
                        Some(problem) => {
                            let status = u16::try_from(problem["status"].as_u64().unwrap());
                            self.told(about, status.unwrap(), problem, None)
                        }
                    }
                })
            }
            Call::Batch(all) => all
                .into_iter()
                .try_for_each(|about| self.told(about, status, &answer.body, answer.retry_after())),
            Call::Cancel(about) if status == 200 => {
                let id = self.truth.messages[about].told.unwrap();
                self.truth.replied(about, &Reply::Cancelled { id })
            }
            Call::Cancel(_) if matches!(answer.code(), "too_late_to_cancel") || status == 503 => {
                Ok(())
            }
            Call::Cancel(about) => {
                broken(Some(about), format!("a client that wants it back is told {answer:?}"))
            }
            // A door that cannot wait for the archive any longer shows what is there.
            Call::Read { about, at, had_ended } => {
                let is_fresh = self.now.since(at) < ANSWER_TIMEOUT;
                self.coverage.count_if(is_fresh && had_ended, "http read of an end");
                self.shown(about, is_fresh && had_ended, answer)
            }
        }
    }

    /// A client hears what became of its message.
    fn told(&mut self, about: usize, status: u16, body: &Value, wait: Option<Duration>) -> Kept {
        let code = body["code"].as_str().unwrap_or_default();
        self.story.tell(self.now, Some(about), || format!("told: {status} {code}"));
        if status == 202 {
            let id = body["id"].as_str().unwrap().parse().unwrap();
            let read_at = self.now + self.draws.millis(0, 60_000);
            self.reads.push((read_at, about));
            return self.hears(about, &Reply::Accepted { id, state: State::Queued });
        }
        // The message may have been accepted.
        if code == "not_confirmed" {
            self.lost_answer(about);
            return Ok(());
        }
        let reply = match code {
            "idempotency_in_progress" => Reply::IdempotencyInProgress,
            "idempotency_key_reused" => Reply::IdempotencyKeyReused,
            "store_unavailable" | "rate_limited" => Reply::StoreUnavailable,
            "queue_full" => {
                let class = self.clients[about].request.class;
                let retry_after = wait.unwrap_or(Duration::from_secs(1));
                Reply::QueueFull { class, retry_after }
            }
            // It came too late for its own time to live.
            "expired_on_arrival" => {
                self.clients[about].next = Next::Rest;
                return Ok(());
            }
            _ => return broken(Some(about), format!("a client is told {status} {body}")),
        };
        self.hears(about, &reply)
    }

    /// What a client reads of its message is so: it is there, and has ended if and only if it has.
    fn shown(&self, about: usize, had_ended: bool, answer: &Answer) -> Kept {
        match answer.status {
            200 => {}
            429 | 503 => return Ok(()),
            _ => return broken(Some(about), format!("is not found: {answer:?}")),
        }
        let message = &self.truth.messages[about];
        let state = answer.body["state"].as_str().unwrap_or_default();
        let is_way = ["scheduled", "queued", "submitting", "submitted"].contains(&state);
        let ends = [&message.finish, &message.correction].map(Option::as_ref);
        let is_end = ends.into_iter().flatten().any(|end| end.state.as_str() == state);
        if is_end || is_way && !had_ended {
            return Ok(());
        }
        let how = format!("is shown as {state}, and has ended as {:?}", message.end());
        broken(Some(about), how)
    }
}

/// A request as a client writes it.
fn written(about: usize, request: &Request) -> Value {
    let asked_at = START + request.at;
    let mut body = json!({
        "to": format!("+{}", request.to),
        "from": format!("{SENDER}{about:08}"),
        "text": request.text,
        "class": request.class,
        "max_segments": 10,
        "receipts": request.receipts,
    });
    match request.send_after {
        Some(after) => {
            body["send_at"] = stamp(asked_at + after).into();
            body["ttl"] = format!("{}s", request.ttl.as_secs()).into();
        }
        None if request.lives_from_send_at => {
            body["ttl"] = format!("{}s", request.ttl.as_secs()).into();
        }
        None => body["expires_at"] = stamp(asked_at + request.ttl).into(),
    }
    body
}

fn stamp(at: Time) -> String {
    jiff::Timestamp::from_microsecond(at.as_micros().cast_signed()).unwrap().to_string()
}
