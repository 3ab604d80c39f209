//! librdkafka's own calls, where its safe wrapper does too much for volume or has none.
//!
//! The wrapper looks the topic up by its name for each record, and hands each answer over by itself
//! with a counted reference to all that came with it. Nor can its administrator log in by a token.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null_mut, without_provenance_mut};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_vtype_t as part;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer as _};

use super::session::{Answer, Ear, locked};
use super::stream::Piece;
use crate::time::Mono;

/// What librdkafka says of a token that it does not like.
const WORDS: usize = 256;
/// librdkafka chooses the partition (RD_KAFKA_PARTITION_UA, a macro that has no binding).
const UNASSIGNED: i32 = -1;

/// A producer's way into one topic, and its way out for answers.
pub(super) struct Outlet {
    topic: NonNull<sys::rd_kafka_topic_t>,
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// Outlives both: it goes after `drop`.
    client: Arc<BaseProducer<Ear>>,
}

// SAFETY: librdkafka is thread-safe as a whole, its handles too (INTRODUCTION.md, threads).
unsafe impl Send for Outlet {}

impl Drop for Outlet {
    fn drop(&mut self) {
        // SAFETY: both are ours, were never given back before, and their client still lives.
        unsafe {
            sys::rd_kafka_topic_destroy(self.topic.as_ptr());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

impl Outlet {
    /// None where librdkafka has no room, or does not like the name.
    pub(super) fn new(client: &Arc<BaseProducer<Ear>>, topic: &str) -> Option<Self> {
        let name = CString::new(topic).ok()?;
        let native = client.client().native_ptr();
        // SAFETY: the client lives for both calls, and the name is copied.
        let (topic, queue) = unsafe {
            let topic = sys::rd_kafka_topic_new(native, name.as_ptr(), null_mut());
            (NonNull::new(topic)?, sys::rd_kafka_queue_get_main(native))
        };
        // A client has its main queue as long as it lives.
        let queue = NonNull::new(queue)?;
        Some(Self { topic, queue, client: client.clone() })
    }

    pub(super) fn client(&self) -> &Arc<BaseProducer<Ear>> {
        &self.client
    }

    /// Hands a record over; its answer comes under `number`. Everything of it is copied.
    pub(super) fn put(
        &self,
        number: usize,
        partition: Option<i32>,
        piece: &Piece<'_>,
    ) -> Result<(), Code> {
        let (name, value) = piece.header;
        let key = piece.key.unwrap_or_default();
        let key_at = piece.key.map_or(null_mut(), |key| key.as_ptr().cast_mut());
        // SAFETY: each part is given as librdkafka's manual says that it is read: its kind, then
        // values of C's types. All pointers are of slices that live for the call, with their own
        // lengths. The headers are librdkafka's when it takes the record, and else still ours.
        let answer = unsafe {
            let headers = sys::rd_kafka_headers_new(1);
            sys::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value.as_ptr().cast(),
                value.len().cast_signed(),
            );
            let answer = sys::rd_kafka_producev(
                self.client.client().native_ptr(),
                part::RD_KAFKA_VTYPE_RKT,
                self.topic.as_ptr(),
                part::RD_KAFKA_VTYPE_PARTITION,
                partition.unwrap_or(UNASSIGNED),
                part::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                part::RD_KAFKA_VTYPE_VALUE,
                piece.payload.as_ptr(),
                piece.payload.len(),
                part::RD_KAFKA_VTYPE_KEY,
                key_at,
                key.len(),
                part::RD_KAFKA_VTYPE_OPAQUE,
                without_provenance_mut::<u8>(number),
                part::RD_KAFKA_VTYPE_HEADERS,
                headers,
                part::RD_KAFKA_VTYPE_END,
            );
            if answer != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                sys::rd_kafka_headers_destroy(headers);
            }
            answer
        };
        match answer {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(code.into()),
        }
    }

    /// Takes what the client has to tell, and waits for the first of it no longer than `wait`.
    pub(super) fn listen(&self, wait: Duration) {
        let mut wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is ours. Each event is ours too, until it is destroyed below.
        while let Some(event) = NonNull::new(unsafe {
            sys::rd_kafka_queue_poll(self.queue.as_ptr(), std::mem::take(&mut wait))
        }) {
            let event = event.as_ptr();
            // SAFETY: `told` does not keep it.
            unsafe {
                self.told(event);
                sys::rd_kafka_event_destroy(event);
            }
        }
    }

    /// # Safety
    ///
    /// The event is one of this client's queue, and not destroyed before this returns.
    unsafe fn told(&self, event: *mut sys::rd_kafka_event_t) {
        let ear = self.client.client().context();
        // SAFETY: the event lives. Its kind says what can be asked of it; what it answers by pointer
        // lives as long as it does, and texts end with a zero.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => {
                    let at = Mono::now();
                    let mut answers = locked(&ear.answers);
                    while let Some(message) = sys::rd_kafka_event_message_next(event).as_ref() {
                        let result = match message.err {
                            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                                Ok((message.partition, message.offset))
                            }
                            code => Err(code.into()),
                        };
                        answers.put(message._private.addr(), Answer { at, result });
                    }
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let text = text(sys::rd_kafka_event_error_string(event));
                    ear.error(KafkaError::Global(sys::rd_kafka_event_error(event).into()), &text);
                }
                sys::RD_KAFKA_EVENT_STATS => {
                    ear.stats_raw(text(sys::rd_kafka_event_stats(event)).as_bytes());
                }
                sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => log_in(self.client.client()),
                _ => {}
            }
        }
    }
}

/// Logs a client in by the token that its context has; where there is none, its connections say so.
pub(super) fn log_in(client: &Client<Ear>) {
    let native = client.native_ptr();
    let token = client.context().generate_oauth_token(None).map_err(|error| error.to_string());
    let Err(why) = token.and_then(|token| take_token(native, &token)) else { return };
    let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the client lives for the call, and the text is copied.
    unsafe { sys::rd_kafka_oauthbearer_set_token_failure(native, why.as_ptr()) };
}

fn take_token(native: *mut sys::rd_kafka_t, token: &OAuthToken) -> Result<(), String> {
    let plain = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (value, principal) = (plain(&token.token)?, plain(&token.principal_name)?);
    let mut words: [c_char; WORDS] = [0; WORDS];
    // SAFETY: the texts are copied; what is wrong with them is written into `words`, with a zero at
    // its end, and no more than its length.
    let answer = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            native,
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            null_mut(),
            0,
            words.as_mut_ptr(),
            words.len(),
        )
    };
    match answer {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // SAFETY: as above.
        _ => Err(unsafe { text(words.as_ptr()) }),
    }
}

/// # Safety
///
/// It is null, or a text that lives and ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}
