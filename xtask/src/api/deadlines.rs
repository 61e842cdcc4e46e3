//! The longest waits for the API server, all in one table.

use std::time::Duration;

/// The longest waits.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// For a TCP connection and its TLS handshake, also on a machine that is busy.
    pub connect: Duration,
    /// For a whole answer, from the connection to the last byte of the body.
    pub answer: Duration,
    /// For the head of a stream's answer: watches and logs then go on for as long as they do.
    pub head: Duration,
    /// How long the API server keeps a watch open before it is asked to go on.
    pub watch: Duration,
    /// For all attempts of a request together.
    pub retry: Duration,
    /// Attempts of a request.
    pub attempts: u32,
    /// The first pause between two attempts; each one after it is twice as long.
    pub pause: Duration,
    /// The longest pause, also where the server asks for a longer one.
    pub longest_pause: Duration,
    /// For an object to be gone after its deletion. Pods take their grace period.
    pub deletion: Duration,
    /// For a namespace to be gone: every object in it goes first.
    pub namespace_deletion: Duration,
    /// Between two looks at something that is waited for.
    pub poll: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            head: Duration::from_secs(10),
            watch: Duration::from_secs(60),
            retry: Duration::from_secs(5),
            attempts: 6,
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
            deletion: Duration::from_secs(90),
            namespace_deletion: Duration::from_secs(180),
            poll: Duration::from_millis(200),
        }
    }
}
