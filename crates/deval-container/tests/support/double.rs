//! A test double of the miner API: it answers as the real one and misbehaves when told to. The harness's tests compile it into a static
//! binary and put it into an image of nothing else.
//!
//! The environment variable `DOUBLE_START` says how it starts, `DOUBLE_HASH` which hash it tells; a question whose body holds
//! `double:WORD` or `double:WORD:NUMBER` is answered as WORD says. One question at a time, as the real one: everything else waits.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    process::{Command, exit},
    sync::Mutex,
    thread::{self, sleep},
    time::{Duration, Instant},
};

static SERVING: Mutex<()> = Mutex::new(());

fn main() {
    if env::args().nth(1).as_deref() == Some("sleep") {
        sleep(Duration::from_secs(60));
        return;
    }
    let start = env::var("DOUBLE_START").unwrap_or_default();
    let (word, number) = split(&start);
    match word {
        "import-error" => {
            // As long as Python takes at least.
            sleep(Duration::from_millis(200));
            eprintln!("Traceback (most recent call last):\n  File \"<stdin>\", line 1\nModuleNotFoundError: No module named 'nothing'");
            exit(1);
        }
        "hang" => sleep(Duration::from_secs(600)),
        "late" => sleep(Duration::from_millis(number)),
        "memory" => drop(fill_memory()),
        _ => {}
    }
    for (phase, seconds) in [("import", 0.25), ("load", 0.5)] {
        println!("{{\"deval_phase\": \"{phase}\", \"seconds\": {seconds}}}");
    }
    let _taken = (word == "port-taken").then(|| TcpListener::bind("0.0.0.0:8000"));
    let listener = TcpListener::bind("0.0.0.0:8000").unwrap_or_else(|error| {
        eprintln!("ERROR: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): {error}");
        exit(1);
    });
    println!("{{\"deval_phase\": \"ready\", \"seconds\": 0.75}}");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

/// `word:number`.
fn split(text: &str) -> (&str, u64) {
    let (word, number) = text.split_once(':').unwrap_or((text, "0"));
    (word, number.parse().unwrap_or(0))
}

fn serve(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (path, body) = read(&mut reader)?;
        let _one_at_a_time = SERVING.lock().unwrap();
        let started = Instant::now();
        match path.as_str() {
            "/health" => answer(&stream, 200, "true", "", started)?,
            "/get_model_hash" => {
                let hash = env::var("DOUBLE_HASH").unwrap_or_default();
                answer(&stream, 200, &format!("{{\"hash\":\"{hash}\"}}"), "", started)?;
            }
            "/get_model_coldkey" => {
                let coldkey = fs::read_to_string("/app/eval_llm/coldkey.txt").unwrap_or_default();
                answer(&stream, 200, &format!("{{\"coldkey\":{coldkey:?}}}"), "", started)?;
            }
            _ => misbehave(&stream, &body, started)?,
        }
    }
}

/// Path and body of the next request.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first.split(' ').nth(1)?.to_owned(), String::from_utf8(body).ok()?))
}

fn misbehave(stream: &TcpStream, body: &str, started: Instant) -> Option<()> {
    let word = body.split_once("double:").map_or("", |(_, rest)| rest);
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && ![':', '-', '.'].contains(&c)).unwrap_or(word.len());
    let whole = &word[..end];
    let (word, number) = split(whole);
    let told = match word {
        "raise" => return broken(stream, r#"{"raised": "ValueError", "message": "no"}"#, started),
        "nan" => {
            let seen = r#"{"type": "dict", "keys": ["score_completion"], "score": {"type": "float", "repr": "nan", "finite": false}, "mistakes": null}"#;
            return broken(stream, seen, started);
        }
        "rejected" => {
            let body = r#"{"score":-1.0,"mistakes":[],"response_time":0.1,"status_message":"error"}"#;
            return answer(stream, 200, body, r#"{"type": "list"}"#, started);
        }
        "null" => {
            let body = r#"{"score":0.5,"mistakes":null,"response_time":0.1,"status_message":"success"}"#;
            return answer(stream, 200, body, "", started);
        }
        "invalid" => return answer(stream, 422, r#"{"detail":[{"type":"missing"}]}"#, "", started),
        "garbage" => return (&mut &*stream).write_all(b"\x00\x01 this is not HTTP\r\n\r\n").ok(),
        "close" => return None,
        "huge" => return answer(stream, 200, &"x".repeat(number as usize), "", started),
        "slow" => return dribble(stream),
        "exit" => exit(number as i32),
        "memory" => fill_memory(),
        "late" => wait(number),
        "flood" => flood(number),
        "disk" => fill_disk(),
        "connect" => connect(whole.trim_start_matches("connect:")),
        "write" => write_outside(),
        "fork" => fork(),
        _ => vec!["a claim".to_owned()],
    };
    let mistakes: Vec<_> = told.iter().map(|text| format!("{text:?}")).collect();
    let body = format!(
        "{{\"score\":0.5,\"mistakes\":[{}],\"response_time\":0.1,\"status_message\":\"success\"}}",
        mistakes.join(",")
    );
    let seen = r#"{"seconds": 0.1, "type": "dict", "keys": ["score_completion", "mistakes_completion"], "score": {"type": "float", "repr": "0.5", "finite": true}, "mistakes": {"type": "list", "items": ["str"], "count": 1, "surrogate": false}}"#;
    answer(stream, 200, &body, seen, started)
}

fn broken(stream: &TcpStream, seen: &str, started: Instant) -> Option<()> {
    answer(stream, 500, "Internal Server Error", seen, started)
}

fn answer(mut stream: &TcpStream, status: u16, body: &str, seen: &str, started: Instant) -> Option<()> {
    let seen = if seen.is_empty() { String::new() } else { format!("x-deval-observed: {seen}\r\n") };
    let (length, milliseconds) = (body.len(), started.elapsed().as_secs_f64() * 1000.0);
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nserver-timing: app;dur={milliseconds:.3}\r\n{seen}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

/// A body that comes byte by byte and never ends.
fn dribble(mut stream: &TcpStream) -> Option<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{").ok()?;
    loop {
        sleep(Duration::from_millis(100));
        stream.write_all(b" ").ok()?;
    }
}

fn wait(milliseconds: u64) -> Vec<String> {
    sleep(Duration::from_millis(milliseconds));
    vec!["a late claim".to_owned()]
}

fn flood(megabytes: u64) -> Vec<String> {
    let line = [b"x".repeat(999), b"\n".to_vec()].concat().repeat(1000);
    let mut out = std::io::stdout().lock();
    let written = (0..megabytes).all(|_| out.write_all(&line).is_ok());
    vec![format!("{written}")]
}

fn fill_memory() -> Vec<String> {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}

fn fill_disk() -> Vec<String> {
    let block = vec![1_u8; 1 << 20];
    let mut file = fs::File::create("/tmp/filled").unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    let size = file.metadata().unwrap().len() >> 20;
    fs::remove_file("/tmp/filled").unwrap();
    vec![error.to_string(), format!("{size} MiB")]
}

fn connect(address: &str) -> Vec<String> {
    let name = ("pypi.org", 80).to_socket_addrs().map_or("no name".to_owned(), |_| "a name".to_owned());
    let address = format!("{address}:8000").parse().unwrap();
    let connected = TcpStream::connect_timeout(&address, Duration::from_millis(1000));
    vec![name, connected.map_or_else(|_| "no connection".to_owned(), |_| "a connection".to_owned())]
}

fn write_outside() -> Vec<String> {
    let try_to = |path: &&str| format!("{path}: {}", fs::write(path, "x").map_or_else(|error| error.kind().to_string(), |()| "written".to_owned()));
    let rights = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rights = rights.lines().filter(|line| ["CapEff", "NoNewPrivs", "Uid"].iter().any(|name| line.starts_with(name)));
    let rights = rights.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    ["/app/eval_llm/x", "/app/x", "/etc/passwd", "/x", "/tmp/x"].iter().map(try_to).chain(rights).collect()
}

fn fork() -> Vec<String> {
    let mut children = Vec::new();
    let error = loop {
        match Command::new("/proc/self/exe").arg("sleep").spawn() {
            Ok(child) if children.len() < 10_000 => children.push(child),
            Ok(_) => break "no limit".to_owned(),
            Err(error) => break error.kind().to_string(),
        }
    };
    let count = children.len();
    for mut child in children {
        let _gone = child.kill();
        let _gone = child.wait();
    }
    vec![error, format!("{} processes at most", count.next_multiple_of(100))]
}
