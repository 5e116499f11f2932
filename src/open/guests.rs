//! Who is connected: a bounded number, of whom those that only wait may be sent away.

use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections at one time; a browser opens a few ahead of need.
pub(super) const MAX: usize = 16;

/// A connection that is open.
struct Guest {
    number: u64,
    /// To end it from another thread.
    stream: TcpStream,
    /// It has asked rightly and is being sent the file.
    served: bool,
}

/// All connections.
#[derive(Default)]
pub(super) struct Guests {
    list: Mutex<(u64, Vec<Guest>)>,
}

impl Guests {
    // What is held is right at every moment: a thread that panicked spoils nothing.
    fn list(&self) -> MutexGuard<'_, (u64, Vec<Guest>)> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in. Where all places are taken, the one that has been waiting longest has to go: somebody who
    /// says nothing keeps nobody out. `None` if all are being served.
    pub(super) fn admit(&self, stream: &TcpStream) -> Option<u64> {
        let stream = stream.try_clone().ok()?;
        let mut list = self.list();
        let (next, guests) = &mut *list;
        if guests.len() >= MAX {
            let idle = guests.iter().position(|guest| !guest.served)?;
            let _ = guests.remove(idle).stream.shutdown(Shutdown::Both);
        }
        *next += 1;
        guests.push(Guest { number: *next, stream, served: false });
        Some(*next)
    }

    /// From now on it is being sent the file. Not where it was sent away meanwhile.
    pub(super) fn serve(&self, number: u64) -> bool {
        let mut list = self.list();
        let found = list.1.iter_mut().find(|guest| guest.number == number);
        found.map(|guest| guest.served = true).is_some()
    }

    /// It is gone.
    pub(super) fn leave(&self, number: u64) {
        self.list().1.retain(|guest| guest.number != number);
    }

    /// Whether the file is being sent to somebody.
    pub(super) fn any_served(&self) -> bool {
        self.list().1.iter().any(|guest| guest.served)
    }

    /// Ends the connections: of those that wait, or of all.
    pub(super) fn dismiss(&self, all: bool) {
        for guest in self.list().1.iter().filter(|guest| all || !guest.served) {
            let _ = guest.stream.shutdown(Shutdown::Both);
        }
    }
}
