//! The time limits of a client of the API server.

use std::time::Duration;

use crate::deadlines;

/// The longest waits.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// For a TCP connection and its TLS handshake, also on a machine that is busy.
    pub connect: Duration,
    /// For a whole answer, from the connection to the last byte of the body.
    pub answer: Duration,
    /// For the head of a stream's answer: watches and logs then go on for as long as they do.
    pub head: Duration,
    /// Time for which the API server keeps a watch open.
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
            connect: deadlines::API_CONNECT.time(),
            answer: deadlines::API_ANSWER.time(),
            head: deadlines::API_HEAD.time(),
            watch: deadlines::API_WATCH.time(),
            retry: deadlines::API_RETRY.time(),
            attempts: 6,
            pause: deadlines::API_PAUSE.time(),
            longest_pause: deadlines::API_LONGEST_PAUSE.time(),
            deletion: deadlines::API_DELETION.time(),
            namespace_deletion: deadlines::API_NAMESPACE_DELETION.time(),
            poll: deadlines::POLL.time(),
        }
    }
}
