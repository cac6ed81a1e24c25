//! The calls themselves, typed.

use super::{CallError, Client};
use http::header::WARNING;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use kube::Resource;
use kube::client::Body;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{self, NamespaceResourceScope, ObjectList, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many warnings of one answer are kept.
const WARNINGS: usize = 8;

/// An object of a namespace.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static
{
}

/// What a creation came to.
#[derive(Debug)]
pub struct Created<K> {
    /// The object as it stands.
    pub object: K,
    /// What the server and its admission say about it: what will fail later is often said here first.
    pub warnings: Vec<String>,
}

impl Client {
    /// One object, if it is there.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>, CallError> {
        there(self.call(of::<K>(namespace).get(name, &GetParams::default())).await)
    }

    /// Makes an object. One of that name is a refusal with code 409 and reason `AlreadyExists`; after a creation
    /// whose answer was lost it may be the caller's own.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn create<K: Object>(&self, namespace: &str, object: &K) -> Result<Created<K>, CallError> {
        self.create_as(None, namespace, object).await
    }

    /// As [`Client::create`], under the name of a field manager, whose last write the server dates.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn create_as<K: Object>(
        &self,
        manager: Option<&str>,
        namespace: &str,
        object: &K,
    ) -> Result<Created<K>, CallError> {
        let how = PostParams { field_manager: manager.map(str::to_owned), ..PostParams::default() };
        let request = of::<K>(namespace).create(&how, written(object));
        let response = self.answer(request).await?;
        let warnings = warnings(response.headers());
        Ok(Created { object: read(response).await?, warnings })
    }

    /// Looks what a creation would come to; nothing is made.
    ///
    /// # Errors
    /// It would be refused, or the call came to nothing.
    pub(crate) async fn try_out<K: Object>(&self, namespace: &str, object: &K) -> Result<(), CallError> {
        let how = PostParams { dry_run: true, ..PostParams::default() };
        self.answer(of::<K>(namespace).create(&how, written(object))).await.map(drop)
    }

    /// Asks what this account may do in a namespace.
    ///
    /// # Errors
    /// The call came to nothing.
    pub(crate) async fn review(
        &self,
        review: &SelfSubjectRulesReview,
    ) -> Result<SelfSubjectRulesReview, CallError> {
        let path = SelfSubjectRulesReview::url_path(&(), None);
        self.call(core::Request::new(path).create(&PostParams::default(), written(review))).await
    }

    /// Puts an object in the place of the one with its name, which is to have its `resourceVersion`: without one
    /// the write of somebody else is lost.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn update<K: Object>(&self, namespace: &str, object: &K) -> Result<K, CallError> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        self.call(of::<K>(namespace).replace(name, &PostParams::default(), written(object))).await
    }

    /// Changes an object by a merge patch (RFC 7396). With `metadata.resourceVersion` in it, only that version.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn patch<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<K, CallError> {
        let request = of::<K>(namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch));
        self.call(request).await
    }

    /// As [`Client::patch`], by a strategic merge patch, which can also put something in the place of what stands
    /// there (`$patch`), and under the name of a field manager, whose last write the server dates.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn patch_as<K: Object>(
        &self,
        manager: Option<&str>,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<K, CallError> {
        let how = PatchParams { field_manager: manager.map(str::to_owned), ..PatchParams::default() };
        self.call(of::<K>(namespace).patch(name, &how, &Patch::Strategic(patch))).await
    }

    /// Deletes an object, under the preconditions of `how`; `false` when it is not there.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        how: &DeleteParams,
    ) -> Result<bool, CallError> {
        let request = of::<K>(namespace).delete(name, how);
        // The object as it was, or a status: neither says more.
        Ok(there(self.call::<serde::de::IgnoredAny>(request).await)?.is_some())
    }

    /// A page of a list.
    ///
    /// # Errors
    /// The call came to nothing.
    pub async fn page<K: Object>(
        &self,
        namespace: &str,
        which: &ListParams,
    ) -> Result<ObjectList<K>, CallError> {
        self.call(of::<K>(namespace).list(which)).await
    }

    /// The body of an answer that goes on.
    pub(crate) async fn stream(
        &self,
        request: Result<Request<Vec<u8>>, core::request::Error>,
    ) -> Result<Body, CallError> {
        Ok(self.answer(request).await?.into_body())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, core::request::Error>,
    ) -> Result<T, CallError> {
        read(self.answer(request).await?).await
    }

    /// The answer, if it is no refusal.
    async fn answer(
        &self,
        request: Result<Request<Vec<u8>>, core::request::Error>,
    ) -> Result<Response<Body>, CallError> {
        let request = request.map_err(|error| CallError::unsendable(&error))?;
        let response = self.kube.send(request.map(Body::from)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await?.to_bytes();
        let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Status {
            message: String::from_utf8_lossy(&body).trim().to_owned(),
            ..Status::default()
        });
        Err(CallError::refused(Status { code: status.as_u16(), ..refusal }))
    }
}

/// The requests about one type of object in a namespace.
pub(crate) fn of<K: Object>(namespace: &str) -> core::Request {
    core::Request::new(K::url_path(&(), Some(namespace)))
}

fn written<K: Serialize>(object: &K) -> Vec<u8> {
    serde_json::to_vec(object).expect("an object of the API is JSON")
}

async fn read<T: DeserializeOwned>(response: Response<Body>) -> Result<T, CallError> {
    let body = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| CallError::not_json(&error))
}

/// What is not there is no failure.
fn there<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The texts of `Warning` headers (RFC 7234 §5.5): `299 - "text"`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(WARNING).iter().filter_map(|value| {
        let (_, quoted) = value.to_str().ok()?.split_once('"')?;
        let text = quoted.strip_suffix('"').unwrap_or(quoted);
        Some(CallError::words(&text.replace("\\\"", "\"")))
    });
    texts.take(WARNINGS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_read_without_their_quotes() {
        let mut headers = HeaderMap::new();
        let texts = [r#"299 - "unknown field \"spec.x\"""#, "299 - \"would violate\"", "nothing quoted"];
        for text in texts {
            headers.append(WARNING, text.parse().unwrap());
        }
        assert_eq!(warnings(&headers), ["unknown field \"spec.x\"", "would violate"]);
    }
}
