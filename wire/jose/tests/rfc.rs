//! The examples of RFC 7515 (appendix A), 7517 (appendix A), 7519 (section 3.1), 7520 (section 4) and 8037
//! (appendix A), and of RFC 7638 what is asked here.

use naru_base::Json;
use naru_jose::{Algorithm, Compact, Jwk, Jwks, Jwt, SigningKey, TokenFault};

/// RFC 7515, A.1: the symmetric key, and RFC 7519, 3.1: the same token.
const HMAC_KEY: &str = r#"{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const HMAC_TOKEN: &str = concat!(
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
);

/// RFC 7515, A.3.
const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
const EC_TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);

/// RFC 8037, A.1 to A.5.
const ED_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

/// RFC 7515, A.5: an unsecured token.
const NONE_TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

/// RFC 7520, 4.4: HMAC over the text that all its examples sign.
const COOKBOOK_KEY: &str = r#"{"kty":"oct","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037","use":"sig","alg":"HS256","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#;
const COOKBOOK_TOKEN: &str = concat!(
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.",
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUg",
    "cm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0",
    "IGJlIHN3ZXB0IG9mZiB0by4.",
    "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
);

/// RFC 7515, A.2.
const RSA_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiJ9.",
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);

/// RFC 7515, A.4.
const EC_521_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const EC_521_TOKEN: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

/// RFC 7520, 3.1 and 3.3: the keys of 4.1 to 4.3.
const BILBO_RSA_KEY: &str = r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#;
const BILBO_EC_KEY: &str = r#"{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}"#;
const BILBO_RS256: (&str, &str) = (
    r#"{"alg":"RS256","kid":"bilbo.baggins@hobbiton.example"}"#,
    "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
);
const BILBO_PS384: (&str, &str) = (
    r#"{"alg":"PS384","kid":"bilbo.baggins@hobbiton.example"}"#,
    "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
);
const BILBO_ES512: (&str, &str) = (
    r#"{"alg":"ES512","kid":"bilbo.baggins@hobbiton.example"}"#,
    "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
);

/// The payload that all examples of RFC 7520 have.
fn cookbook((header, signature): (&str, &str)) -> String {
    let payload = COOKBOOK_TOKEN.split('.').nth(1).unwrap_or_default();
    format!("{}.{payload}.{signature}", naru_jose::secret::to_text(header.as_bytes()))
}

#[track_caller]
fn expect_signed(key: &str, token: &str) {
    let key = Jwk::parse(key.as_bytes()).expect("a key");
    let token = Compact::parse(token).expect("a token");
    assert_eq!(key.verify(&token), Ok(()));
}

#[test]
fn each_example_is_verified() {
    expect_signed(HMAC_KEY, HMAC_TOKEN);
    expect_signed(EC_KEY, EC_TOKEN);
    expect_signed(ED_KEY, ED_TOKEN);
    expect_signed(COOKBOOK_KEY, COOKBOOK_TOKEN);
    expect_signed(RSA_KEY, RSA_TOKEN);
    expect_signed(EC_521_KEY, EC_521_TOKEN);
    expect_signed(BILBO_RSA_KEY, &cookbook(BILBO_RS256));
    expect_signed(BILBO_RSA_KEY, &cookbook(BILBO_PS384));
    expect_signed(BILBO_EC_KEY, &cookbook(BILBO_ES512));
}

#[test]
fn an_example_is_refused_for_another_example() {
    let key = Jwk::parse(BILBO_RSA_KEY.as_bytes()).expect("a key");
    for (header, signature) in [
        (BILBO_PS384.0, BILBO_RS256.1),
        (BILBO_RS256.0, BILBO_PS384.1),
        (r#"{"alg":"PS256","kid":"bilbo.baggins@hobbiton.example"}"#, BILBO_PS384.1),
        (r#"{"alg":"RS256","kid":"frodo.baggins@hobbiton.example"}"#, BILBO_RS256.1),
    ] {
        let text = cookbook((header, signature));
        assert!(key.verify(&Compact::parse(&text).expect("a token")).is_err(), "{header}");
    }
}

#[test]
fn signing_an_example_again_gives_the_same_where_signatures_are_alike() {
    for (key, algorithm, token) in [
        (HMAC_KEY, Algorithm::Hs256, HMAC_TOKEN),
        (ED_KEY, Algorithm::EdDsa, ED_TOKEN),
        (COOKBOOK_KEY, Algorithm::Hs256, COOKBOOK_TOKEN),
    ] {
        let key = SigningKey::parse(key.as_bytes()).expect("a private key");
        assert_eq!(key.algorithm(), algorithm);
        let read = Compact::parse(token).expect("a token");
        let header = naru_jose::secret::from_text(token.split('.').next().unwrap_or_default());
        let header = String::from_utf8(header.expect("base64url")).expect("text");
        assert_eq!(key.sign_text(&header, &read.payload), token);
    }
    // A signature of ECDSA is another one each time, and verified all the same.
    let key = SigningKey::parse(EC_KEY.as_bytes()).expect("a private key");
    let text = key.sign_text(r#"{"alg":"ES256"}"#, b"again");
    assert_eq!(key.public().verify(&Compact::parse(&text).expect("a token")), Ok(()));
}

#[test]
fn the_claims_of_an_example_are_read() {
    let token = Jwt::parse(HMAC_TOKEN).expect("a token");
    assert_eq!((token.text("iss"), token.time("exp")), (Some("joe"), Some(1_300_819_380)));
    assert_eq!(token.claims.get("http://example.com/is_root"), Some(&Json::Bool(true)));
}

#[test]
fn the_unsecured_example_is_refused() {
    // Without a signature it has no third part; with one it has an algorithm that is none.
    assert_eq!(Jwt::parse(NONE_TOKEN).err(), Some(TokenFault::Form));
    assert_eq!(Jwt::parse(&format!("{NONE_TOKEN}AAAA")).err(), Some(TokenFault::UnknownAlgorithm));
}

#[test]
fn the_critical_example_is_refused() {
    // RFC 7515, appendix E.
    let text = "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.";
    assert!(Compact::parse(text).is_err());
    assert!(Compact::parse(&format!("{text}AAAA")).is_err());
}

#[test]
fn the_example_of_a_set_is_read() {
    // RFC 7517, A.1: one key for encryption, which is left out.
    let set = r#"{"keys":[
        {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
        {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#;
    let set = Jwks::parse(set.as_bytes()).expect("a set");
    let names: Vec<_> = set.keys().iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!((names, set.left_out().len()), (vec!["2011-04-29"], 1));
}
