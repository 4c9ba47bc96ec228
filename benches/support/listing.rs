//! What a service answers to ListObjectsV2, for the benches that read it.

use std::fmt::Write;

/// A page as the service writes it.
pub(crate) fn page(keys: usize) -> String {
    let mut body = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>bench</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>\
         <IsTruncated>true</IsTruncated><NextContinuationToken>token</NextContinuationToken>",
    );
    for index in 0..keys {
        write!(
            body,
            "<Contents><Key>logs/2024/11/20/host-{:04}/part-{index:08}.bin</Key>\
             <LastModified>2024-11-20T17:50:{:02}.000Z</LastModified>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>{}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            index / 100,
            index % 60,
            index * 977,
        )
        .expect("writing to a String cannot fail");
    }
    body + "</ListBucketResult>"
}
