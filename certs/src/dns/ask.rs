//! One question to one DNS server (RFC 1035): by UDP, and by TCP where the answer is too long for that.

use super::error::AskError;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a server may take to answer a question. Resolvers that find nothing in their cache take a second or two.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// After which a question is sent again, since UDP loses some.
const SENT_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// More than an answer by UDP may have (RFC 1035 §4.2.1): nobody is offered EDNS, which some servers cannot do and small
/// answers do not need; longer ones come by TCP.
const PACKET: usize = 1232;

/// Who finds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The server, by asking others.
    Recursion,
    /// The server, out of its own zones and no other place.
    OwnZones,
}

/// Asks one server. The answer is to this question, and says that something or nothing is there.
///
/// # Errors
/// It did not answer until the deadline, or with an error; from [`By::OwnZones`], it is not authoritative.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    by: By,
    deadline: Instant,
) -> Result<Message, AskError> {
    let question = question(name, kind, by);
    let bytes = question.to_vec().map_err(|error| AskError::Unreadable(error.to_string()))?;
    let began = Instant::now();
    let answered = timeout_at(deadline, async {
        let answer = by_udp(server, &question, &bytes).await?;
        if answer.truncation { read(&question, &by_tcp(server, &bytes).await?) } else { Ok(answer) }
    });
    let answer = answered.await.unwrap_or_else(|_| Err(AskError::Silent(began.elapsed())))?;
    judge(answer, by)
}

/// Sends a message by TCP (RFC 7766), and gives what comes back as it is. At most 64 KiB, as the length has two bytes.
///
/// # Errors
/// The server cannot be reached, or closes before it has answered.
pub(super) async fn by_tcp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, AskError> {
    let length = u16::try_from(message.len()).map_err(|_| AskError::Unreadable("too long".to_owned()))?;
    let mut stream = TcpStream::connect(server).await?;
    // In one piece: some servers do not read a length that comes alone.
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The code of an answer, as the standards write it.
pub(super) fn rcode(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::NotZone => "NOTZONE".to_owned(),
        other => format!("{other:?}").to_uppercase(),
    }
}

fn question(name: &Name, kind: RecordType, by: By) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = by == By::Recursion;
    question.add_query(Query::query(name.clone(), kind));
    question
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // From then on the kernel takes packets of this server alone, and tells when nobody listens there.
    socket.connect(server).await?;
    let mut buffer = vec![0; PACKET];
    loop {
        socket.send(bytes).await?;
        let answered = timeout(SENT_AGAIN_AFTER, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // Somebody may guess: what does not fit is passed over, and the answer waited for.
                if let Ok(answer) = read(question, &buffer[..length]) {
                    return Ok(answer);
                }
            }
        });
        if let Ok(answer) = answered.await {
            return answer;
        }
    }
}

/// What was answered, if it is to this question.
fn read(question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let answer = Message::from_vec(bytes).map_err(|error| AskError::Unreadable(error.to_string()))?;
    // Some servers leave the question out of an error.
    let is_same = answer.queries == question.queries
        || (answer.queries.is_empty() && answer.response_code != ResponseCode::NoError);
    if answer.id == question.id && answer.message_type == MessageType::Response && is_same {
        Ok(answer)
    } else {
        Err(AskError::Unreadable("it is about something else".to_owned()))
    }
}

fn judge(answer: Message, by: By) -> Result<Message, AskError> {
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if by == By::OwnZones && !answer.authoritative => {
            Err(AskError::Lame)
        }
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        other => Err(AskError::Refused(rcode(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn only_the_answer_to_the_question_is_read() {
        let asked = question(&name("a.test."), RecordType::TXT, By::OwnZones);
        let answer = |change: &dyn Fn(&mut Message)| {
            let mut answer = asked.clone();
            answer.metadata.message_type = MessageType::Response;
            change(&mut answer);
            read(&asked, &answer.to_vec().unwrap()).is_ok()
        };
        assert!(answer(&|_| ()));
        assert!(!answer(&|answer| answer.metadata.id ^= 1), "another id");
        assert!(!answer(&|answer| answer.metadata.message_type = MessageType::Query), "an echo");
        assert!(!answer(&|answer| answer.queries[0] = Query::query(name("b.test."), RecordType::TXT)));
        assert!(!answer(&|answer| answer.queries.clear()), "no question");
        assert!(answer(&|answer| {
            answer.queries.clear();
            answer.metadata.response_code = ResponseCode::ServFail;
        }));
        assert!(read(&asked, b"").is_err());
        assert!(read(&asked, &[0xff; 40]).is_err());
    }

    #[test]
    fn a_server_that_the_zone_names_must_be_authoritative() {
        let answer = |code, is_authoritative| {
            let mut answer = question(&name("a.test."), RecordType::TXT, By::OwnZones);
            answer.metadata.response_code = code;
            answer.metadata.authoritative = is_authoritative;
            answer
        };
        assert!(judge(answer(ResponseCode::NXDomain, true), By::OwnZones).is_ok());
        assert!(judge(answer(ResponseCode::NoError, false), By::Recursion).is_ok());
        let lame = judge(answer(ResponseCode::NoError, false), By::OwnZones).unwrap_err();
        assert_eq!(lame.to_string(), "it does not serve the zone");
        let refused = judge(answer(ResponseCode::Refused, false), By::OwnZones).unwrap_err();
        assert_eq!(refused.to_string(), "it answers REFUSED");
    }
}
