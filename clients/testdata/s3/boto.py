# What Python programs do with boto3: prints "ok", or fails.
import hashlib
import os
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError


def client(style):
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=Config(s3={"addressing_style": style}, retries={"max_attempts": 0}))


def refused(code, f, **args):
    try:
        f(**args)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
        return
    raise AssertionError(f"{f} is not refused with {code}")


s3 = client("path")
s3.create_bucket(Bucket="python", CreateBucketConfiguration={"LocationConstraint": "weur"})
assert s3.get_bucket_location(Bucket="python")["LocationConstraint"] == "weur"
refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket="python")
refused("NoSuchBucket", s3.list_objects_v2, Bucket="nothing-here")

etag = s3.put_object(Bucket="python", Key="a", Body=b"one", Metadata={"who": "me"}, ContentType="text/x", CacheControl="no-store")["ETag"]
got = s3.get_object(Bucket="python", Key="a", IfMatch=etag)
assert got["Body"].read() == b"one" and got["Metadata"] == {"who": "me"} and got["ContentType"] == "text/x" and got["CacheControl"] == "no-store"
refused("304", s3.head_object, Bucket="python", Key="a", IfNoneMatch=etag)
refused("PreconditionFailed", s3.get_object, Bucket="python", Key="a", IfMatch='"0"')
refused("NoSuchKey", s3.get_object, Bucket="python", Key="missing")
assert s3.get_object(Bucket="python", Key="a", Range="bytes=1-")["Body"].read() == b"ne"
refused("InvalidRange", s3.get_object, Bucket="python", Key="a", Range="bytes=9-")
assert s3.get_object(Bucket="python", Key="a", ResponseContentType="text/y")["ContentType"] == "text/y"

for algorithm in ["CRC32", "SHA1", "SHA256"]:
    put = s3.put_object(Bucket="python", Key="sum", Body=b"sum", ChecksumAlgorithm=algorithm)
    assert s3.get_object(Bucket="python", Key="sum", ChecksumMode="ENABLED")["Checksum" + algorithm] == put["Checksum" + algorithm]

large = os.urandom(17 << 20)
config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
path = os.path.join(os.environ["HOME"], "large")
with open(path, "wb") as f:
    f.write(large)
s3.upload_file(path, "python", "large", Config=config)
s3.download_file("python", "large", path + ".back", Config=config)
with open(path + ".back", "rb") as f:
    assert f.read() == large
assert s3.head_object(Bucket="python", Key="large")["ETag"].endswith('-4"')
assert len(s3.get_object(Bucket="python", Key="large", PartNumber=2)["Body"].read()) == 5 << 20
s3.copy({"Bucket": "python", "Key": "large"}, "python", "copy", Config=config)
assert hashlib.sha256(s3.get_object(Bucket="python", Key="copy")["Body"].read()).digest() == hashlib.sha256(large).digest()

key = os.urandom(32)
s3.put_object(Bucket="python", Key="sealed", Body=b"secret", SSECustomerAlgorithm="AES256", SSECustomerKey=key)
assert s3.get_object(Bucket="python", Key="sealed", SSECustomerAlgorithm="AES256", SSECustomerKey=key)["Body"].read() == b"secret"
refused("InvalidRequest", s3.get_object, Bucket="python", Key="sealed")

upload = s3.create_multipart_upload(Bucket="python", Key="parts")["UploadId"]
assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket="python")["Uploads"]] == [upload]
part = s3.upload_part(Bucket="python", Key="parts", UploadId=upload, PartNumber=3, Body=b"x")["ETag"]
assert [p["PartNumber"] for p in s3.list_parts(Bucket="python", Key="parts", UploadId=upload)["Parts"]] == [3]
refused("InvalidPart", s3.complete_multipart_upload, Bucket="python", Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
s3.abort_multipart_upload(Bucket="python", Key="parts", UploadId=upload)
refused("NoSuchUpload", s3.list_parts, Bucket="python", Key="parts", UploadId=upload)

for i in range(25):
    s3.put_object(Bucket="python", Key=f"page/{i:02d}/x", Body=b"")
pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="python", Prefix="page/", Delimiter="/", PaginationConfig={"PageSize": 10}))
assert [len(p["CommonPrefixes"]) for p in pages] == [10, 10, 5]
pages = list(s3.get_paginator("list_objects").paginate(Bucket="python", Prefix="page/", PaginationConfig={"PageSize": 10}))
assert [len(p["Contents"]) for p in pages] == [10, 10, 5]

url = s3.generate_presigned_url("put_object", Params={"Bucket": "python", "Key": "signed ü.txt"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(url, data=b"signed", method="PUT"))
url = s3.generate_presigned_url("get_object", Params={"Bucket": "python", "Key": "signed ü.txt", "ResponseContentDisposition": "inline"}, ExpiresIn=60)
with urllib.request.urlopen(url) as r:
    assert r.read() == b"signed" and r.headers["Content-Disposition"] == "inline"

refused("NotImplemented", s3.put_object_tagging, Bucket="python", Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
refused("NotImplemented", s3.put_bucket_versioning, Bucket="python", VersioningConfiguration={"Status": "Enabled"})
refused("NotImplemented", s3.get_bucket_policy, Bucket="python")
refused("BucketNotEmpty", s3.delete_bucket, Bucket="python")
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="python"):
    s3.delete_objects(Bucket="python", Delete={"Objects": [{"Key": o["Key"]} for o in page["Contents"]]})
s3.delete_bucket(Bucket="python")
print("ok")
