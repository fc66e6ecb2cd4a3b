//! The body of the fuzz target `archive`: files of the archive that are not as they were written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use hikyaku::archive;
use hikyaku::archive::Archive;
use hikyaku::archive::ERASED;
use hikyaku::archive::Feed;
use hikyaku::archive::Message;
use hikyaku::archive::Search;
use hikyaku::archive::StoreError;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::EncodingChoice;
use hikyaku::message::Finish;
use hikyaku::message::IdSource;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Position;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::seal::Keys;
use hikyaku::time::Time;
use tokio::runtime::Builder;

use super::script::Script;

const START: Time = Time::from_secs(1_795_388_400);

/// The texts of the messages, in their order.
const TEXTS: [&str; 4] = ["a kestrel hovers", "飛脚が走る", "a bittern booms", "a wryneck hides"];

/// How often one input may do something to the files.
const DEEDS: u32 = 32;

/// An archive on the disk, as it was closed.
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    messages: Vec<(MessageId, Message)>,
    end: Position,
}

/// Octets as what is done to the files: each is refused, or shows what was written, or less.
pub(crate) fn run(octets: &[u8]) {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    let image = IMAGE.get_or_init(image);
    let mut files = image.files.clone();
    let mut script = Script::new(octets);
    for _ in 0..DEEDS {
        if script.is_over() {
            break;
        }
        damage(&mut script, &mut files);
    }
    let dir = dir();
    for (name, octets) in &files {
        fs::write(dir.path().join(name), octets).unwrap();
    }
    let Ok((_tailer, archive)) = archive::open(&config(dir.path()), image.end, &Keys::known(0))
    else {
        return;
    };
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(look(&archive, image));
}

/// One deed: octets of a file change, are zeros, or are gone; or it is another file altogether.
fn damage(script: &mut Script<'_>, files: &mut BTreeMap<String, Vec<u8>>) {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = &names[usize::from(script.octet()) % names.len()];
    let deed = script.below(6);
    let Some(octets) = files.get_mut(name).filter(|octets| !octets.is_empty()) else { return };
    let at = script.number() as usize % octets.len();
    match deed {
        0 | 1 => octets[at] ^= script.octet().max(1),
        2 => {
            let piece = script.octets();
            let until = octets.len().min(at + piece.len());
            octets[at..until].copy_from_slice(&piece[..until - at]);
        }
        3 => {
            // A sector or a page that was never written.
            let size = if script.flag() { 4_096 } else { 512 };
            let from = at / size * size;
            let until = octets.len().min(from + size);
            octets[from..until].fill(0);
        }
        4 => octets.truncate(at),
        _ => *octets = std::mem::take(&mut script.rest).to_vec(),
    }
}

/// Whatever is shown of a message was written so, where it is sealed.
async fn look(archive: &Archive, image: &Image) {
    for (id, written) in &image.messages {
        // What is refused is told with its file.
        if let Ok(Some(found)) = archive.message(*id, None).await {
            is_right(&found, image, Some(written));
        }
    }
    let _feed: Result<_, StoreError> = archive.events(Feed::All, Position(0), 100, None).await;
    if let Ok(found) = archive.search(Search::default(), None).await {
        for message in &found.messages {
            is_right(message, image, None);
        }
    }
}

fn is_right(found: &Message, image: &Image, written: Option<&Message>) {
    let is_it = |written: &Message| {
        let text = found.text.is_none() || found.text == written.text;
        text && (found.to == written.to || &*found.to == ERASED)
    };
    let is_known = match written {
        Some(written) => is_it(written),
        None => image.messages.iter().any(|(_, written)| is_it(written)),
    };
    assert!(is_known, "no message was written with what is shown: {found:?}");
}

fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.unwrap()
}

fn config(dir: &Path) -> archive::Config {
    archive::Config { dir: dir.to_owned(), store_text: true, ..archive::Config::default() }
}

/// Messages of two days, some of which have ended.
fn image() -> Image {
    let dir = dir();
    let opened = archive::open(&config(dir.path()), Position(0), &Keys::known(0)).unwrap();
    let (mut tailer, archive) = opened;
    let mut ids = IdSource::new(1);
    let (mut end, mut known) = (Position(0), Vec::new());
    for (text, number) in TEXTS.iter().zip(0_u32..) {
        let at = START + Duration::from_secs(3_600) * number;
        let id = ids.next(at);
        known.push(id);
        let mut records = vec![Record::Accepted(submission(id, at, text, number).into())];
        if number % 2 == 0 {
            let finish = Finish {
                state: State::Expired,
                reason: None,
                carrier: "".into(),
                carrier_status: None,
                carrier_error: "".into(),
            };
            records.push(Record::Finished { id, at, finish });
        }
        for record in records {
            let position = end;
            end = Position(end.0 + 100);
            tailer.apply(at, position, end, record).unwrap();
        }
        tailer.publish();
        tailer.flush_all(at).unwrap();
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let messages = known
        .into_iter()
        .map(|id| (id, runtime.block_on(archive.message(id, None)).unwrap().unwrap()));
    let messages = messages.collect();
    drop(runtime);
    drop((tailer, archive));
    let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let files = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    Image { files: files.collect(), messages, end }
}

fn submission(id: MessageId, at: Time, text: &str, number: u32) -> Submission {
    Submission {
        id,
        accepted_at: at,
        key: "shop".into(),
        to: format!("8190{number:08}").into(),
        from: None,
        content: Content::Text(text.into()),
        class: Class::Transactional,
        client_ref: Some(format!("order-{number}").into()),
        campaign: None,
        tags: Vec::new(),
        send_at: None,
        expires_at: at + Duration::from_secs(600),
        encoding: EncodingChoice::Auto,
        max_segments: 10,
        receipts: ReceiptsWanted::Final,
        callback_url: None,
        idempotency: None,
        plan: PlanSummary { route: "all".into(), encoding: "gsm7".into(), segments: 1, units: 20 },
    }
}
