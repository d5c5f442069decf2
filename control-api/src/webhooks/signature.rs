//! The signature of a delivery: Standard Webhooks, version `v1`, HMAC-SHA256
//! (<https://github.com/standard-webhooks/standard-webhooks>, "Signature scheme").

use base64::{Engine as _, engine::general_purpose::STANDARD};
use control_domain::features::webhooks::secret::PREFIX;
use ring::hmac;

/// The value of `webhook-signature`: one signature for each secret, separated by spaces. Secrets
/// that are not of the format have none.
pub(super) fn sign(secrets: &[String], id: &str, timestamp: u64, body: &[u8]) -> String {
    let sign = |secret: &String| {
        let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        Some(format!("v1,{}", STANDARD.encode(context.sign())))
    };
    secrets.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_example_of_the_specification_has_this_signature() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures_and_another_text_makes_none() {
        let secrets = ["whsec_AAAA".to_owned(), "whsec_BBBB".to_owned(), "CCCC".to_owned()];
        let signature = sign(&secrets, "a", 1, b"{}");
        let both = signature.split(' ').collect::<Vec<_>>();
        assert_eq!(both.len(), 2);
        assert_ne!(both[0], both[1]);
    }
}
