//! Talking to a token.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use parking_lot::Mutex;
use selvedge_msp::{KeyError, PublicKey, Signer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Uri;

/// DER of the OID 1.2.840.10045.3.1.7, P-256.
const P256_PARAMETERS: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// A PIN file is one line.
const MAX_PIN_FILE_BYTES: u64 = 1024;

/// A PKCS#11 library is initialised once in a process, however many keys are behind it.
static LIBRARIES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// A key in a token.
pub(super) struct Token {
    uri: Uri,
    public: PublicKey,
    /// None after the token failed, until it is opened again. A session serves one thread at a time.
    open: Mutex<Option<Open>>,
}

struct Open {
    session: Session,
    key: ObjectHandle,
}

impl Uri {
    fn failed(&self, why: impl std::fmt::Display) -> KeyError {
        KeyError::Held {
            place: self.text.clone(),
            reason: why.to_string(),
        }
    }

    fn library(&self) -> Result<Pkcs11, KeyError> {
        let mut libraries = LIBRARIES.lock();
        if let Some(library) = libraries.get(&self.module) {
            return Ok(library.clone());
        }
        let library = Pkcs11::new(&self.module)
            .map_err(|e| self.failed(format!("the library cannot be loaded: {e}")))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(e) => return Err(self.failed(e)),
        }
        libraries.insert(self.module.clone(), library.clone());
        Ok(library)
    }

    /// The slot of the one token that the URI describes.
    fn slot(&self, library: &Pkcs11) -> Result<Slot, KeyError> {
        let mut found = Vec::new();
        for slot in library
            .get_slots_with_initialized_token()
            .map_err(|e| self.failed(e))?
        {
            let token = library.get_token_info(slot).map_err(|e| self.failed(e))?;
            let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
            if is(&self.token, token.label())
                && is(&self.serial, token.serial_number())
                && is(&self.manufacturer, token.manufacturer_id())
                && is(&self.model, token.model())
                && self.slot.is_none_or(|wanted| wanted == slot.id())
            {
                found.push(slot);
            }
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(self.failed("there is no such token")),
            several => Err(self.failed(format!(
                "{} tokens are like that; name one by 'token' or 'serial'",
                several.len()
            ))),
        }
    }

    fn log_in(&self, session: &Session) -> Result<(), KeyError> {
        let Some(file) = &self.pin_file else {
            return Ok(());
        };
        let unreadable = |why: String| self.failed(format!("the PIN file {}: {why}", file.display()));
        let length = std::fs::metadata(file)
            .map_err(|e| unreadable(e.to_string()))?
            .len();
        if length > MAX_PIN_FILE_BYTES {
            return Err(unreadable(format!("it has {length} bytes and is no PIN")));
        }
        let text = std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|e| unreadable(e.to_string()))?;
        let pin = AuthPin::from(text.trim_end_matches(['\r', '\n']).to_owned());
        match session.login(UserType::User, Some(&pin)) {
            // Another session of this process did so.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// What finds the key, or its public half.
    fn template(&self, class: ObjectClass) -> Vec<Attribute> {
        let mut template = vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)];
        template.extend(
            self.object
                .as_ref()
                .map(|o| Attribute::Label(o.clone().into_bytes())),
        );
        template.extend(self.id.as_ref().map(|id| Attribute::Id(id.clone())));
        template
    }

    fn one(&self, session: &Session, class: ObjectClass) -> Result<Option<ObjectHandle>, KeyError> {
        let found = session
            .find_objects(&self.template(class))
            .map_err(|e| self.failed(e))?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            several => Err(self.failed(format!(
                "{} keys are like that; name one by 'object' and 'id'",
                several.len()
            ))),
        }
    }

    fn open(&self) -> Result<Open, KeyError> {
        let library = self.library()?;
        let slot = self.slot(&library)?;
        let session = library.open_ro_session(slot).map_err(|e| self.failed(e))?;
        self.log_in(&session)?;
        let key = self.one(&session, ObjectClass::PRIVATE_KEY)?.ok_or_else(|| {
            let hint = if self.pin_file.is_none() {
                ", or it shows itself only to who knows the PIN: name the PIN's file as 'pin-source'"
            } else {
                ""
            };
            self.failed(format!("the token holds no such ECDSA key{hint}"))
        })?;
        Ok(Open { session, key })
    }

    /// The public half, from its own object or, where the token shows it, from the private one.
    fn public_key(&self, open: &Open) -> Result<PublicKey, KeyError> {
        let object = self
            .one(&open.session, ObjectClass::PUBLIC_KEY)?
            .unwrap_or(open.key);
        let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
        let (mut parameters, mut point) = (None, None);
        for attribute in open
            .session
            .get_attributes(object, &wanted)
            .map_err(|e| self.failed(e))?
        {
            match attribute {
                Attribute::EcParams(value) => parameters = Some(value),
                Attribute::EcPoint(value) => point = Some(value),
                _ => {}
            }
        }
        if parameters.is_some_and(|p| p != P256_PARAMETERS) {
            return Err(self.failed("the key is not on the curve P-256"));
        }
        let point = point.ok_or_else(|| self.failed("the token does not show the public key"))?;
        // An OCTET STRING around the 65 bytes of the point, says PKCS#11; some tokens leave it out.
        PublicKey::from_p256_point(point.strip_prefix(&[0x04, 65]).unwrap_or(&point))
    }
}

/// Makes a key pair in the token.
pub(super) fn generate(uri: &Uri) -> Result<(), KeyError> {
    let library = uri.library()?;
    let slot = uri.slot(&library)?;
    let session = library.open_rw_session(slot).map_err(|e| uri.failed(e))?;
    uri.log_in(&session)?;
    if uri.one(&session, ObjectClass::PRIVATE_KEY)?.is_some() {
        return Err(uri.failed("the token has such a key already"));
    }
    let label = uri.object.clone().unwrap_or_default().into_bytes();
    let id = uri.id.clone().unwrap_or_else(|| label.clone());
    let names = [Attribute::Token(true), Attribute::Label(label), Attribute::Id(id)];
    let mut public = names.to_vec();
    public.extend([
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(P256_PARAMETERS.to_vec()),
    ]);
    let mut private = names.to_vec();
    private.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ]);
    session
        .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
        .map_err(|e| uri.failed(e))?;
    Ok(())
}

impl Token {
    pub(super) fn open(uri: Uri) -> Result<Self, KeyError> {
        let open = uri.open()?;
        Ok(Self {
            public: uri.public_key(&open)?,
            uri,
            open: Mutex::new(Some(open)),
        })
    }
}

/// Whether opening the token again may help: it was taken out and put back, or reset.
fn is_lost(error: &Error) -> bool {
    use RvError::{
        CryptokiNotInitialized, DeviceError, DeviceRemoved, KeyHandleInvalid, ObjectHandleInvalid,
        SessionClosed, SessionHandleInvalid, TokenNotPresent, UserNotLoggedIn,
    };
    matches!(
        error,
        Error::Pkcs11(
            CryptokiNotInitialized
                | DeviceError
                | DeviceRemoved
                | KeyHandleInvalid
                | ObjectHandleInvalid
                | SessionClosed
                | SessionHandleInvalid
                | TokenNotPresent
                | UserNotLoggedIn,
            _
        )
    )
}

impl Signer for Token {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let digest = Sha256::digest(message);
        let sign = |open: &Open| open.session.sign(&Mechanism::Ecdsa, open.key, &digest);
        let mut open = self.open.lock();
        if let Some(present) = open.as_ref() {
            match sign(present) {
                Ok(signature) => return Ok(signature),
                Err(e) if is_lost(&e) => *open = None,
                Err(e) => return Err(self.uri.failed(e)),
            }
        }
        let again = open.insert(self.uri.open()?);
        sign(again).map_err(|e| self.uri.failed(e))
    }

    fn reference(&self) -> &str {
        &self.uri.text
    }
}

#[cfg(test)]
mod tests;
