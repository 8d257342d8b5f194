output "location" {
  description = "What a role's permissions name."
  value = {
    bucket_arn = aws_s3_bucket.this.arn
    key_arn    = aws_kms_key.this.arn
    aws_region = var.aws_region
  }
}
