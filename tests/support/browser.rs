//! A browser in which the page is tested: Chromium, asked by its debugging protocol.

use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// How long the browser may take for anything.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A page of a browser, which ends with its first page.
pub struct Browser {
    /// Of the first page.
    process: Option<(Child, TempDir)>,
    port: u16,
    socket: WebSocket<TcpStream>,
    number: u64,
    /// What the console and the page's scripts complained of.
    complaints: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some((process, _)) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Asks a browser itself.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).build().into()
}

impl Browser {
    /// Starts one, as wide as a desk has it.
    pub fn start() -> Browser {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.args(["--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", folder.path().display())).env("HOME", folder.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut process =
            process.unwrap_or_else(|error| panic!("chromium does not start: {error}; install it (Debian's package: chromium)"));
        let until = Instant::now() + WAIT_MAX;
        let port = loop {
            let said = fs::read_to_string(folder.path().join("DevToolsActivePort")).unwrap_or_default();
            if let Some(port) = said.lines().next().and_then(|port| port.parse::<u16>().ok()) {
                break port;
            }
            assert!(process.try_wait().unwrap().is_none() && Instant::now() < until, "chromium does not get ready");
            std::thread::sleep(LOOK_EVERY);
        };
        let page = loop {
            let said =
                agent().get(format!("http://127.0.0.1:{port}/json")).call().ok().and_then(|mut said| said.body_mut().read_to_string().ok());
            let pages: Vec<Value> = said.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            if let Some(page) = pages.iter().find(|page| page["type"] == "page") {
                break page["webSocketDebuggerUrl"].as_str().unwrap().to_string();
            }
            assert!(Instant::now() < until, "chromium has no page");
            std::thread::sleep(LOOK_EVERY);
        };
        Browser::of(port, &page, Some((process, folder)))
    }

    /// Another page of the same browser, in front of the others.
    pub fn tab(&self) -> Browser {
        let address = format!("http://127.0.0.1:{}/json/new?about:blank", self.port);
        let said = agent().put(address).send_empty().unwrap().body_mut().read_to_string().unwrap();
        let page: Value = serde_json::from_str(&said).unwrap();
        Browser::of(self.port, page["webSocketDebuggerUrl"].as_str().unwrap(), None)
    }

    fn of(port: u16, page: &str, process: Option<(Child, TempDir)>) -> Browser {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let (socket, _) = tungstenite::client(page, stream).unwrap();
        let mut browser = Browser { process, port, socket, number: 0, complaints: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.size(1280, 900);
        browser
    }

    /// Calls the browser, and takes what it tells meanwhile.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let asked = json!({"id": self.number, "method": method, "params": parameters});
        self.socket.send(Message::text(asked.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let told: Value = serde_json::from_str(text.as_str()).unwrap();
            if told["id"] == self.number {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].clone();
            }
            let parameters = &told["params"];
            let is_bad = match told["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Runtime.consoleAPICalled") => matches!(parameters["type"].as_str(), Some("error" | "warning" | "assert")),
                Some("Log.entryAdded") => matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")),
                _ => false,
            };
            if is_bad {
                self.complaints.push(parameters.to_string());
            }
        }
    }

    /// As many pixels.
    pub fn size(&mut self, width: u32, height: u32) {
        let is_phone = width < 600;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}),
        );
    }

    /// What the system wants: `light` or `dark`.
    pub fn scheme(&mut self, scheme: &str) {
        self.call("Emulation.setEmulatedMedia", json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    /// Opens an address, and waits until something is so.
    #[track_caller]
    pub fn open(&mut self, address: &str, until: &str) {
        self.call("Page.navigate", json!({"url": address}));
        self.until(until);
    }

    /// The value of an expression; a promise is waited for.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let told = self.call("Runtime.evaluate", asked);
        assert!(told["exceptionDetails"].is_null(), "{expression}: {}", told["exceptionDetails"]);
        told["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let until = Instant::now() + WAIT_MAX;
        // While another page is being opened there is nothing to ask.
        let asked = json!({"expression": format!("Boolean({expression})"), "returnByValue": true});
        while self.call("Runtime.evaluate", asked.clone())["result"]["value"] != true {
            if Instant::now() > until {
                let shown = self.value("document.body.innerText");
                panic!("it does not come to {expression}; shown is {shown}, complaints are {:?}", self.complaints);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until an element has this text in it.
    #[track_caller]
    pub fn until_text(&mut self, selector: &str, text: &str) {
        self.until(&format!("[...document.querySelectorAll({selector:?})].some((found) => found.textContent.includes({text:?}))"));
    }

    /// The text of the first element.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).into()
    }

    /// Left, top, width and height of an element, brought into sight.
    #[track_caller]
    pub fn rectangle(&mut self, selector: &str) -> [f64; 4] {
        let script = format!(
            "(() => {{ const found = document.querySelector({selector:?}); found.scrollIntoView({{ block: 'center' }}); \
             const box = found.getBoundingClientRect(); return [box.left, box.top, box.width, box.height] }})()"
        );
        let found = self.value(&script);
        [0, 1, 2, 3].map(|number| found[number].as_f64().unwrap_or_else(|| panic!("{selector} is nowhere")))
    }

    /// The mouse does something at a place.
    pub fn mouse(&mut self, kind: &str, (x, y): (f64, f64)) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        self.call("Input.dispatchMouseEvent", json!({"type": kind, "x": x, "y": y, "button": button, "clickCount": 1}));
    }

    /// Clicks an element in its middle.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let [left, top, width, height] = self.rectangle(selector);
        let at = (left + width / 2.0, top + height / 2.0);
        ["mouseMoved", "mousePressed", "mouseReleased"].iter().for_each(|kind| self.mouse(kind, at));
    }

    /// Drags from a place to another.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from);
        self.mouse("mousePressed", from);
        for step in 1..=5 {
            let part = f64::from(step) / 5.0;
            let at = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            self.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": at.0, "y": at.1, "button": "left", "buttons": 1}));
        }
        self.mouse("mouseReleased", to);
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, `ArrowRight`.
    pub fn key(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => panic!("no key {key}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        let kind = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        for kind in [kind, "keyUp"] {
            let pressed = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": if kind == "keyUp" { "" } else { text }});
            self.call("Input.dispatchKeyEvent", pressed);
        }
    }

    /// Writes into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Drops a file on an element.
    #[track_caller]
    pub fn drop_file(&mut self, selector: &str, path: &Path) {
        let [left, top, width, height] = self.rectangle(selector);
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({"items": [], "files": [path.display().to_string()], "dragOperationsMask": 1});
            let at = json!({"type": kind, "x": left + width / 2.0, "y": top + height / 2.0, "data": data});
            self.call("Input.dispatchDragEvent", at);
        }
    }

    /// A picture of what is seen, to be looked at: in `target/page/`. It is none of one colour.
    #[track_caller]
    pub fn picture(&mut self, name: &str) {
        let told = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = base64(told["data"].as_str().unwrap());
        assert!(bytes.len() > 5_000, "the picture {name} is empty");
        let folder = Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).join("page");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Nobody complained.
    #[track_caller]
    pub fn is_content(&mut self) {
        // What was told until now.
        self.value("1");
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
    }

    /// What was complained of, which is expected here.
    pub fn forgive(&mut self) -> Vec<String> {
        self.value("1");
        std::mem::take(&mut self.complaints)
    }
}

/// Bytes from base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let group = |group: &[u8]| {
        let number = group.iter().enumerate().fold(0u32, |number, (place, digit)| number | u32::from(*digit) << (18 - 6 * place));
        number.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
