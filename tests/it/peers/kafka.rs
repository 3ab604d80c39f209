//! Apache Kafka 4 in KRaft mode: one broker, PLAINTEXT and SASL_SSL.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Process, folder, free_port, require, run};

/// A broker.
pub(crate) struct Kafka {
    /// The PLAINTEXT address.
    pub(crate) brokers: String,
    /// The SASL_SSL address: user `alice`, password `alice-secret`, mechanisms PLAIN,
    /// SCRAM-SHA-256 and SCRAM-SHA-512; OAUTHBEARER with an unsecured JWS.
    pub(crate) secured: String,
    /// The file of the certificate that the SASL_SSL address shows (self-signed).
    pub(crate) certificate: PathBuf,
    /// A further PLAINTEXT port, whose clients are told to come to `front` instead.
    pub(crate) behind: u16,
    /// Where a test may listen and pass on to `behind` what it likes; nobody does by itself.
    pub(crate) front: u16,
    folder: PathBuf,
    process: Mutex<Option<Process>>,
}

/// The broker that all tests share: they use topics of their own and never stop it.
pub(crate) fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(own_kafka)
}

/// A broker for one test alone, which may kill it.
pub(crate) fn own_kafka() -> Kafka {
    require("java", "default-jre-headless");
    let folder = folder("kafka");
    let [plain, controller, sasl] = [free_port(), free_port(), free_port()];
    let [behind, front] = [free_port(), free_port()];
    let properties = include_str!("../../peers/kafka/server.properties")
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@PLAIN@", &plain.to_string())
        .replace("@CONTROLLER@", &controller.to_string())
        .replace("@SASL@", &sasl.to_string())
        .replace("@BEHIND@", &behind.to_string())
        .replace("@FRONT@", &front.to_string());
    fs::write(folder.join("server.properties"), properties).expect("the folder can be written");
    let certificate = folder.join("broker.pem");
    make_certificate(&folder, &certificate);
    format(&folder);
    let kafka = Kafka {
        brokers: format!("127.0.0.1:{plain}"),
        secured: format!("localhost:{sasl}"),
        certificate,
        behind,
        front,
        folder,
        process: Mutex::new(None),
    };
    kafka.start();
    kafka
}

impl Kafka {
    /// SIGKILL: the broker has no time for a last word.
    pub(crate) fn kill(&self) {
        *self.process.lock().expect("no panic inside") = None;
    }

    /// Stops it where it is, or lets it go on: its connections stay, and nothing answers.
    pub(crate) fn pause(&self, paused: bool) {
        let process = self.process.lock().expect("no panic inside");
        let pid = process.as_ref().expect("it runs").pid();
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        let signal = if paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(pid, signal).expect("own child");
    }

    /// A quota on what clients of this id may produce. librdkafka has no call for it: the request
    /// is AlterClientQuotas, version 0, as Kafka's protocol guide has it.
    pub(crate) fn quota(&self, client: &str, bytes_a_second: f64) {
        let text = |text: &str, out: &mut Vec<u8>| {
            out.extend(i16::try_from(text.len()).expect("a short text").to_be_bytes());
            out.extend(text.as_bytes());
        };
        let mut request = vec![0, 49, 0, 0, 0, 0, 0, 1];
        text("tests", &mut request);
        request.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        text("client-id", &mut request);
        text(client, &mut request);
        request.extend([0, 0, 0, 1]);
        text("producer_byte_rate", &mut request);
        request.extend(bytes_a_second.to_be_bytes());
        request.extend([0, 0]);
        let mut broker = TcpStream::connect(&self.brokers).expect("kafka is there");
        let size = u32::try_from(request.len()).expect("a short request");
        broker.write_all(&size.to_be_bytes()).expect("kafka reads");
        broker.write_all(&request).expect("kafka reads");
        let mut answer = [0; 18];
        broker.read_exact(&mut answer).expect("kafka answers");
        // Size, correlation, throttle time, one entry, its error.
        assert_eq!(answer[12..], [0, 0, 0, 1, 0, 0], "{answer:?}");
    }

    /// Starts it (again) on its own ports and data, and waits until it answers.
    pub(crate) fn start(&self) {
        let mut process = Process::start(
            "java",
            "default-jre-headless",
            &[
                "-XX:TieredStopAtLevel=1",
                "-Xms256m",
                "-Xmx512m",
                "-cp",
                &class_path(),
                "kafka.Kafka",
                &self.folder.join("server.properties").display().to_string(),
            ],
            &self.folder.join("kafka.log"),
        );
        let asker: BaseConsumer = self.config().create().expect("a valid configuration");
        process.wait_until(|| {
            asker
                .fetch_metadata(None, Duration::from_secs(1))
                .is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
        *self.process.lock().expect("no panic inside") = Some(process);
    }

    /// Makes a topic with this many partitions, all led by the one broker.
    pub(crate) fn topic(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            self.config().create().expect("a valid configuration");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        // In a thread of its own, so that a test may call this inside its own runtime.
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    let options =
                        AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
                    let made = runtime.block_on(admin.create_topics([&topic], &options));
                    let made = made.expect("kafka answers");
                    assert!(made.iter().all(Result::is_ok), "{made:?}");
                })
                .join()
                .expect("the topic was made");
        });
        let asker: BaseConsumer = self.config().create().expect("a valid configuration");
        let led = || {
            asker.fetch_metadata(Some(name), Duration::from_secs(5)).is_ok_and(|metadata| {
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                partitions.filter(|partition| partition.leader() >= 0).count() > 0
            })
        };
        while !led() {
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The names of the topics that exist.
    pub(crate) fn topics(&self) -> Vec<String> {
        let asker: BaseConsumer = self.config().create().expect("a valid configuration");
        let metadata = asker.fetch_metadata(None, Duration::from_secs(20)).expect("kafka answers");
        metadata.topics().iter().map(|topic| topic.name().to_string()).collect()
    }

    /// What a client of the test's own starts from. It logs nothing: a client that waits for a
    /// broker says so twenty times a second.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", "200")
            .set("log_level", "0");
        config
    }
}

/// The jars that `tests/peers/fetch` copied.
fn class_path() -> String {
    let jars = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/kafka");
    let whole = jars.join("pom.xml");
    assert!(
        fs::read(&whole).is_ok_and(|pom| pom == include_bytes!("../../peers/kafka/pom.xml")),
        "kafka is not fetched (no {}): run tests/run, or tests/peers/fetch",
        whole.display()
    );
    format!("{}/*", jars.display())
}

fn make_certificate(folder: &Path, certificate: &Path) {
    let store = folder.join("broker.p12").display().to_string();
    let common = ["-alias", "broker", "-storetype", "PKCS12", "-storepass", "changeit"];
    let keytool = |arguments: &[&str]| {
        let arguments = [arguments, &common, &["-keystore", &store]].concat();
        let output = run("keytool", "default-jre-headless", &arguments, "");
        assert!(output.status.success(), "keytool: {output:?}");
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "EC",
        "-validity",
        "3650",
        "-dname",
        "CN=localhost",
        "-ext",
        "san=dns:localhost,ip:127.0.0.1",
    ]);
    keytool(&["-exportcert", "-rfc", "-file", &certificate.display().to_string()]);
}

/// Writes the cluster's id and the SCRAM user into the data folder.
fn format(folder: &Path) {
    let properties = folder.join("server.properties").display().to_string();
    let output = run(
        "java",
        "default-jre-headless",
        &[
            "-XX:TieredStopAtLevel=1",
            "-cp",
            &class_path(),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "4L6g3nShT-eMCtK--X86sw",
            "-c",
            &properties,
            "--add-scram",
            "SCRAM-SHA-256=[name=alice,password=alice-secret]",
            "--add-scram",
            "SCRAM-SHA-512=[name=alice,password=alice-secret]",
        ],
        "",
    );
    let said = io::read_to_string(&output.stderr[..]).unwrap_or_default();
    assert!(output.status.success(), "kafka's storage can't be formatted: {said}");
}
