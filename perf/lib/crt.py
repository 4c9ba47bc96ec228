"""Moves a directory into a bucket or a bucket into a directory with aws-c-s3, as perf/run's measure of it.

crt.py ENDPOINT SOURCE TARGET, each side s3://bucket/ or a directory with its slash. aws-c-s3 itself neither walks nor
lists: the directory is walked here, and the bucket's keys are read by one plain request a page. Objects under way are
bounded, as the library would otherwise queue them all.
"""

import os
import pathlib
import sys
import threading
import urllib.parse
import xml.etree.ElementTree

from awscrt import auth, http, io, s3

IN_FLIGHT = 64
XMLNS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Mover:
    def __init__(self, endpoint):
        self.endpoint = urllib.parse.urlsplit(endpoint)
        region = os.environ["AWS_REGION"]
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        keys = auth.AwsCredentialsProvider.new_static(*(os.environ[name] for name in names))
        group = io.EventLoopGroup(1)
        self.client = s3.S3Client(
            bootstrap=io.ClientBootstrap(group, io.DefaultHostResolver(group)),
            region=region,
            tls_mode=s3.S3RequestTlsMode.DISABLED,
            signing_config=s3.create_default_s3_signing_config(region=region, credential_provider=keys),
            part_size=8 << 20,
            multipart_upload_threshold=8 << 20,
            throughput_target_gbps=10,
        )
        self.slots = threading.Semaphore(IN_FLIGHT)
        self.failures = []

    def request(self, method, path, headers=()):
        request = http.HttpRequest(method, path)
        request.headers.add("host", self.endpoint.netloc)
        for name, value in headers:
            request.headers.add(name, value)
        return request

    def start(self, **arguments):
        """Starts one object; waits while too many are under way."""
        self.slots.acquire()
        self.client.make_request(on_done=self.done, **arguments)

    def done(self, error=None, status_code=None, error_body=None, **_):
        if error:
            self.failures.append(f"{status_code} {error} {error_body}")
        self.slots.release()

    def wait(self):
        for _ in range(IN_FLIGHT):
            self.slots.acquire()
        if self.failures:
            sys.exit(f"{len(self.failures)} failed; the first: {self.failures[0]}")

    def upload(self, directory, bucket):
        checksum = s3.S3ChecksumConfig(
            algorithm=s3.S3ChecksumAlgorithm.CRC64NVME, location=s3.S3ChecksumLocation.HEADER
        )
        for parent, _, files in os.walk(directory):
            for file in files:
                path = f"{parent}/{file}"
                key = urllib.parse.quote(os.path.relpath(path, directory))
                headers = [("content-length", str(os.path.getsize(path))), ("content-type", "application/octet-stream")]
                request = self.request("PUT", f"/{bucket}/{key}", headers)
                self.start(
                    type=s3.S3RequestType.PUT_OBJECT, request=request, send_filepath=path, checksum_config=checksum
                )
        self.wait()

    def download(self, bucket, directory):
        checksum = s3.S3ChecksumConfig(validate_response=True)
        for key in self.keys(bucket):
            path = f"{directory}/{key}"
            pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
            request = self.request("GET", f"/{bucket}/{urllib.parse.quote(key)}")
            self.start(type=s3.S3RequestType.GET_OBJECT, request=request, recv_filepath=path, checksum_config=checksum)
        self.wait()

    def keys(self, bucket):
        token = ""
        while token is not None:
            query = "list-type=2" + (f"&continuation-token={urllib.parse.quote(token, safe='')}" if token else "")
            body = bytearray()
            self.client.make_request(
                type=s3.S3RequestType.DEFAULT,
                operation_name="ListObjectsV2",
                request=self.request("GET", f"/{bucket}?{query}"),
                on_body=lambda chunk, **_: body.extend(chunk),
            ).finished_future.result()
            page = xml.etree.ElementTree.fromstring(bytes(body))
            yield from (key.text for key in page.iter(f"{XMLNS}Key"))
            token = page.findtext(f"{XMLNS}NextContinuationToken")


def main():
    endpoint, source, target = sys.argv[1:]
    mover = Mover(endpoint)
    if target.startswith("s3://"):
        mover.upload(source.rstrip("/"), target.removeprefix("s3://").rstrip("/"))
    else:
        mover.download(source.removeprefix("s3://").rstrip("/"), target.rstrip("/"))


if __name__ == "__main__":
    main()
