//! A bucket in memory, just large enough to answer the requests of a sync rightly. It shares no line with the client or the
//! embedded server, and its hashes are other crates'.

use std::collections::BTreeMap;

use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};

use super::scripted::{Answer, Request};

/// A bucket of any name.
#[derive(Default)]
pub struct Model {
    /// By key.
    pub objects: BTreeMap<String, Object>,
    /// By upload id.
    pub uploads: BTreeMap<String, Upload>,
    /// Computes CRC64NVME and answers with it, as AWS does and older servers do not.
    pub echoes_crc64nvme: bool,
    /// In the order in which they are listed: by key, the newest first. With any, the bucket says that it keeps versions.
    pub versions: Vec<Version>,
    /// Keys on a page; 0 is what the client asks for.
    pub page_keys: usize,
    uploads_opened: u32,
}

/// One object.
#[derive(Clone, Default)]
pub struct Object {
    pub content: Vec<u8>,
    /// With its quotes.
    pub etag: String,
    /// `x-amz-meta-*` and `content-type`, as they came.
    pub headers: Vec<(String, String)>,
}

/// A version of an object.
pub struct Version {
    pub key: &'static str,
    pub id: &'static str,
    /// As a listing writes it.
    pub modified: &'static str,
    pub is_latest: bool,
    /// None for a delete marker.
    pub object: Option<Object>,
}

/// An upload whose parts are coming in.
pub struct Upload {
    pub key: String,
    pub parts: BTreeMap<u32, Vec<u8>>,
    headers: Vec<(String, String)>,
}

const MODIFIED: &str = "Mon, 12 Oct 2009 17:50:30 GMT";
const MODIFIED_ISO: &str = "2009-10-12T17:50:30.000Z";

impl Object {
    pub fn new(content: impl Into<Vec<u8>>) -> Object {
        let content = content.into();
        Object { etag: format!("\"{}\"", hex(&md5_of(&content))), content, headers: Vec::new() }
    }

    /// Adds a header that reads are answered with.
    pub fn with(mut self, name: &str, value: &str) -> Object {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Model {
    /// Does what a request asks.
    pub fn perform(&mut self, request: &Request) -> Answer {
        match request.operation {
            "CreateSession" => Answer::xml(
                "<CreateSessionResult><Credentials><SessionToken>T</SessionToken><SecretAccessKey>S</SecretAccessKey>\
                 <AccessKeyId>A</AccessKeyId><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>",
            ),
            "ListObjectsV2" => self.list(request),
            "ListObjectVersions" => self.list_versions(request),
            "GetBucketVersioning" => Answer::xml(match self.versions.is_empty() {
                true => "<VersioningConfiguration/>",
                false => "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
            }),
            "HeadObject" | "GetObject" => self.read(request),
            "PutObject" => self.put(request),
            "CreateMultipartUpload" => self.create(request),
            "UploadPart" => self.upload_part(request),
            "ListParts" => self.list_parts(request),
            "CompleteMultipartUpload" => self.complete(request),
            "AbortMultipartUpload" => match self.uploads.remove(request.query("uploadId")) {
                Some(_) => Answer::new(204),
                None => Answer::error(404, "NoSuchUpload"),
            },
            "DeleteObject" => self.delete(request),
            "DeleteObjects" => self.delete_batch(request),
            _ => Answer::error(501, "NotImplemented"),
        }
    }

    fn delete(&mut self, request: &Request) -> Answer {
        let tag = self.objects.get(&request.key).map(|object| object.etag.clone());
        match (request.header("if-match"), tag) {
            (Some(wanted), Some(tag)) if wanted != tag => Answer::error(412, "PreconditionFailed"),
            _ => {
                self.objects.remove(&request.key);
                Answer::new(204)
            }
        }
    }

    fn delete_batch(&mut self, request: &Request) -> Answer {
        if let Some(refused) = self.refused(request) {
            return refused;
        }
        let deleted = batch_keys(request).into_iter().map(|key| {
            self.objects.remove(&key);
            format!("<Deleted><Key>{}</Key></Deleted>", escaped(&key))
        });
        Answer::xml(format!("<DeleteResult>{}</DeleteResult>", deleted.collect::<String>()))
    }

    fn list(&self, request: &Request) -> Answer {
        let asked: usize = request.query("max-keys").parse().unwrap_or(1_000);
        let page_keys = if self.page_keys == 0 { asked } else { asked.min(self.page_keys) };
        let (prefix, after, token) =
            (request.query("prefix"), request.query("start-after"), request.query("continuation-token"));
        let after = if token.is_empty() { after } else { token };
        let mut found = self.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let page: Vec<_> = found.by_ref().take(page_keys).collect();
        let next = found.next().and(page.last()).map(|(key, _)| key.as_str());
        Answer::xml(list_document(page.iter().map(|(key, object)| (key.as_str(), *object)), next))
    }

    fn list_versions(&self, request: &Request) -> Answer {
        let page_keys = if self.page_keys == 0 { 1_000 } else { self.page_keys };
        let (prefix, key, id) =
            (request.query("prefix"), request.query("key-marker"), request.query("version-id-marker"));
        let mut seen = id.is_empty();
        let mut found = self.versions.iter().filter(|it| it.key.starts_with(prefix)).filter(|it| {
            let wanted = it.key > key || it.key == key && seen && !id.is_empty();
            seen |= it.key == key && it.id == id;
            wanted
        });
        let page: Vec<_> = found.by_ref().take(page_keys).collect();
        let next = found.next().and(page.last()).map_or(String::new(), |last| {
            format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>{}</NextKeyMarker>\
                 <NextVersionIdMarker>{}</NextVersionIdMarker>",
                last.key, last.id
            )
        });
        let lines = page.iter().map(|it| {
            let common = format!(
                "<Key>{}</Key><VersionId>{}</VersionId><IsLatest>{}</IsLatest><LastModified>{}</LastModified>",
                it.key, it.id, it.is_latest, it.modified
            );
            match &it.object {
                Some(object) => {
                    let (etag, size) = (&object.etag, object.content.len());
                    format!("<Version>{common}<ETag>{etag}</ETag><Size>{size}</Size></Version>")
                }
                None => format!("<DeleteMarker>{common}</DeleteMarker>"),
            }
        });
        Answer::xml(format!("<ListVersionsResult>{next}{}</ListVersionsResult>", lines.collect::<String>()))
    }

    fn read(&self, request: &Request) -> Answer {
        let version = self.versions.iter().find(|it| it.key == request.key && it.id == request.query("versionId"));
        let object = version.map_or(self.objects.get(&request.key), |version| version.object.as_ref());
        let Some(object) = object else { return Answer::error(404, "NoSuchKey") };
        if request.header("if-match").is_some_and(|tag| tag != object.etag) {
            return Answer::error(412, "PreconditionFailed");
        }
        let mut answer = Answer::new(200).header("etag", &object.etag).header("last-modified", MODIFIED);
        for (name, value) in &object.headers {
            answer = answer.header(name, value);
        }
        let size = object.content.len();
        if request.operation == "HeadObject" {
            answer = answer.header("content-length", &size.to_string());
        }
        match request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            Some((first, last)) if request.operation == "GetObject" => {
                let first: usize = first.parse().expect("a range begins with a number");
                let last = last.parse().map_or(size, |last: usize| (last + 1).min(size));
                answer.status = 206;
                answer.body = object.content[first..last].to_vec();
                answer.header("content-range", &format!("bytes {first}-{}/{size}", last - 1))
            }
            _ => {
                if self.echoes_crc64nvme {
                    answer = answer.header("x-amz-checksum-crc64nvme", &crc64nvme(&object.content));
                }
                if request.operation == "GetObject" {
                    answer.body = object.content.clone();
                }
                answer
            }
        }
    }

    fn put(&mut self, request: &Request) -> Answer {
        if let Some(refused) = self.refused(request) {
            return refused;
        }
        let object = Object { headers: kept_headers(request), ..Object::new(request.body.clone()) };
        let answer = self.acknowledged(&object.etag, &object.content);
        self.objects.insert(request.key.clone(), object);
        answer
    }

    fn create(&mut self, request: &Request) -> Answer {
        self.uploads_opened += 1;
        let id = format!("upload-{}", self.uploads_opened);
        let document = format!(
            "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        );
        let upload = Upload { key: request.key.clone(), parts: BTreeMap::new(), headers: kept_headers(request) };
        self.uploads.insert(id, upload);
        Answer::xml(document)
    }

    fn upload_part(&mut self, request: &Request) -> Answer {
        if let Some(refused) = self.refused(request) {
            return refused;
        }
        let answer = self.acknowledged(&Object::new(request.body.clone()).etag, &request.body);
        let Some(upload) = self.uploads.get_mut(request.query("uploadId")) else {
            return Answer::error(404, "NoSuchUpload");
        };
        upload.parts.insert(request.query("partNumber").parse().expect("a part has a number"), request.body.clone());
        answer
    }

    fn list_parts(&self, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get(request.query("uploadId")) else {
            return Answer::error(404, "NoSuchUpload");
        };
        let mut document = "<ListPartsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (number, part) in &upload.parts {
            let (etag, size) = (Object::new(part.clone()).etag.replace('"', "&quot;"), part.len());
            document
                .push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{size}</Size>"));
            if self.echoes_crc64nvme {
                document.push_str(&format!("<ChecksumCRC64NVME>{}</ChecksumCRC64NVME>", crc64nvme(part)));
            }
            document.push_str("</Part>");
        }
        Answer::xml(document + "</ListPartsResult>")
    }

    fn complete(&mut self, request: &Request) -> Answer {
        let Some(upload) = self.uploads.get(request.query("uploadId")) else {
            return Answer::error(404, "NoSuchUpload");
        };
        let document = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
        let named: Vec<&str> =
            document.split("<ETag>").skip(1).filter_map(|rest| Some(rest.split_once("</ETag>")?.0)).collect();
        let stored: Vec<String> = upload.parts.values().map(|part| Object::new(part.clone()).etag).collect();
        if named != stored {
            return Answer::error(400, "InvalidPart");
        }
        let digests: Vec<u8> = upload.parts.values().flat_map(|part| md5_of(part)).collect();
        let etag = format!("\"{}-{}\"", hex(&md5_of(&digests)), upload.parts.len());
        let content = upload.parts.values().map(Vec::as_slice).collect::<Vec<_>>().concat();
        let crc = if self.echoes_crc64nvme {
            format!("<ChecksumCRC64NVME>{}</ChecksumCRC64NVME>", crc64nvme(&content))
        } else {
            String::new()
        };
        let key = upload.key.clone();
        let document = format!(
            "<CompleteMultipartUploadResult><Location>http://h/b/{key}</Location><Key>{key}</Key>\
             <ETag>{etag}</ETag>{crc}</CompleteMultipartUploadResult>"
        );
        let headers = upload.headers.clone();
        self.objects.insert(key, Object { content, etag, headers });
        self.uploads.remove(request.query("uploadId"));
        Answer::xml(document)
    }

    /// A body that is not what its headers say is refused.
    fn refused(&self, request: &Request) -> Option<Answer> {
        let md5 = || base64(&md5_of(&request.body));
        let bad_md5 = request.header("content-md5").is_some_and(|theirs| theirs != md5());
        let crc = request.header("x-amz-checksum-crc64nvme").filter(|_| self.echoes_crc64nvme);
        let bad_crc = crc.is_some_and(|theirs| theirs != crc64nvme(&request.body));
        (bad_md5 || bad_crc).then(|| Answer::error(400, "BadDigest"))
    }

    fn acknowledged(&self, etag: &str, content: &[u8]) -> Answer {
        let answer = Answer::new(200).header("etag", etag);
        if self.echoes_crc64nvme { answer.header("x-amz-checksum-crc64nvme", &crc64nvme(content)) } else { answer }
    }
}

/// A page of a listing; `next` is the token of the one behind it.
pub fn list_document<'a>(rows: impl Iterator<Item = (&'a str, &'a Object)>, next: Option<&str>) -> String {
    let mut document = "<?xml version=\"1.0\"?>\n<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
    document.push_str(&format!("<IsTruncated>{}</IsTruncated>", next.is_some()));
    if let Some(next) = next {
        document.push_str(&format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    }
    for (key, object) in rows {
        let (key, etag, size) = (encoded(key), object.etag.replace('"', "&quot;"), object.content.len());
        document.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>{MODIFIED_ISO}</LastModified><ETag>{etag}</ETag>\
             <Size>{size}</Size></Contents>"
        ));
    }
    document + "</ListBucketResult>"
}

/// The keys that a DeleteObjects names.
pub fn batch_keys(request: &Request) -> Vec<String> {
    let document = String::from_utf8(request.body.clone()).expect("XML is UTF-8");
    let keys = document.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0));
    keys.map(|key| key.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
        .collect()
}

fn escaped(key: &str) -> String {
    key.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn kept_headers(request: &Request) -> Vec<(String, String)> {
    let kept = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type";
    request.headers.iter().filter(|(name, _)| kept(name)).cloned().collect()
}

fn encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    key.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub fn crc64nvme(content: &[u8]) -> String {
    base64(&crc_fast::checksum(CrcAlgorithm::Crc64Nvme, content).to_be_bytes())
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn md5_of(content: &[u8]) -> [u8; 16] {
    Md5::digest(content).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
